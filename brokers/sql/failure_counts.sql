-- name: fold_failures  adds some of the ledger of failures to their groups' counters and minutes: how many rows
with taken as (
  delete from brokers_failure_change where id in (
    select id from brokers_failure_change order by id limit %s::int for update skip locked)
  returning *
), groups as (   -- everything below comes from here, so two folds wait for each other's groups in one order
  select id from brokers_failure_group where id = any(array(select failure_group_id from taken)) order by id for update
), minutes as (
  insert into brokers_failure_minute as m (failure_group_id, minute, failures)
  select g.id, date_trunc('minute', t.at), sum(t.failures) from groups g join taken t on t.failure_group_id = g.id
  where t.failures > 0 group by 1, 2 order by 1, 2
  on conflict (failure_group_id, minute) do update set failures = m.failures + excluded.failures
), sums as (
  select g.id, sum(t.failures) as failures, max(t.newest_id) as newest_id,
    min(t.at) filter (where t.failures > 0) as first_at, max(t.at) filter (where t.failures > 0) as last_at,
    coalesce(sum(t.change) filter (where t.state = 'open'), 0) as open,
    coalesce(sum(t.change) filter (where t.state = 'replaying'), 0) as replaying,
    coalesce(sum(t.change) filter (where t.state = 'replayed'), 0) as replayed,
    coalesce(sum(t.change) filter (where t.state = 'resolved'), 0) as resolved,
    coalesce(sum(t.change) filter (where t.state = 'discarded'), 0) as discarded
  from groups g join taken t on t.failure_group_id = g.id group by g.id
), counted as (
  update brokers_failure_group f set failures = f.failures + s.failures,
    first_failed_at = least(f.first_failed_at, s.first_at), last_failed_at = greatest(f.last_failed_at, s.last_at),
    sample_id = greatest(f.sample_id, s.newest_id), open_count = f.open_count + s.open,
    replaying_count = f.replaying_count + s.replaying, replayed_count = f.replayed_count + s.replayed,
    resolved_count = f.resolved_count + s.resolved, discarded_count = f.discarded_count + s.discarded
  from sums s where f.id = s.id
)
select count(*) from taken

-- name: fold_replays  adds some of the ledger of replays to their counters: how many rows
with taken as (
  delete from brokers_replay_change where id in (
    select id from brokers_replay_change order by id limit %s::int for update skip locked)
  returning *
), replays as (
  select id from brokers_replay where id = any(array(select replay_id from taken)) order by id for update
), sums as (
  select r.id, sum(t.sent) as sent, sum(t.succeeded) as succeeded, sum(t.failed_again) as failed_again,
    sum(t.skipped) as skipped
  from replays r join taken t on t.replay_id = r.id group by r.id
), counted as (
  update brokers_replay r set sent = r.sent + s.sent, succeeded = r.succeeded + s.succeeded,
    failed_again = r.failed_again + s.failed_again, skipped = r.skipped + s.skipped
  from sums s where r.id = s.id
)
select count(*) from taken

-- name: forget_minutes  removes old minutes, a bounded number
delete from brokers_failure_minute where (failure_group_id, minute) in (
  select failure_group_id, minute from brokers_failure_minute
  where minute < statement_timestamp() - %s::int * interval '1 day' order by minute limit %s::int)
