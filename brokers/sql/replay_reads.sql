-- name: page  replays before an id, newest first
select r.id, r.state, r.selection, r.consumers, r.target, r.edit, r.rate_per_second, r.canary, r.stop_when_failed_again,
  r.reason, r.created_by, r.created_at, r.starts_at, r.expires_at, r.finished_at, r.stop_cause, r.total, r.skips,
  r.sent + coalesce(c.sent, 0), r.succeeded + coalesce(c.succeeded, 0), r.failed_again + coalesce(c.failed_again, 0),
  r.skipped + coalesce(c.skipped, 0)
from brokers_replay r, lateral (
  select sum(c.sent)::bigint as sent, sum(c.succeeded)::bigint as succeeded,
    sum(c.failed_again)::bigint as failed_again, sum(c.skipped)::bigint as skipped
  from brokers_replay_change c where c.replay_id = r.id) c
where r.id < %(before)s::bigint and (%(states)s::text[] is null or r.state = any(%(states)s::text[]))
order by r.id desc limit %(limit)s::int

-- name: get  one replay
select r.id, r.state, r.selection, r.consumers, r.target, r.edit, r.rate_per_second, r.canary, r.stop_when_failed_again,
  r.reason, r.created_by, r.created_at, r.starts_at, r.expires_at, r.finished_at, r.stop_cause, r.total, r.skips,
  r.sent + coalesce(c.sent, 0), r.succeeded + coalesce(c.succeeded, 0), r.failed_again + coalesce(c.failed_again, 0),
  r.skipped + coalesce(c.skipped, 0)
from brokers_replay r, lateral (
  select sum(c.sent)::bigint as sent, sum(c.succeeded)::bigint as succeeded,
    sum(c.failed_again)::bigint as failed_again, sum(c.skipped)::bigint as skipped
  from brokers_replay_change c where c.replay_id = r.id) c
where r.id = %s::bigint

-- name: progress  items sent and without an outcome, and outcomes a second over the last ten
select
  (select count(*) filter (where (i.replay_id, i.outcome) = (r.id, 'waiting') and i.position < r.next_position) from (
    select replay_id, outcome, position from brokers_replay_item
    where (replay_id, outcome, position) >= (r.id, 'waiting', 0)
    order by replay_id, outcome, position limit 5000) i),
  (select count(*) from (select from brokers_replay_item i where i.replay_id = r.id
    and i.outcome in ('succeeded', 'failed_again')
    and i.finished_at > (select clock_timestamp()) - interval '10 seconds' limit 100000) recent) / 10.0::float8
from brokers_replay r where r.id = %s::bigint

-- name: items  items after a position, read by the one index that has this order
select position, dead_letter_id, revision, outcome, why, sent_at, finished_at from (
  select * from brokers_replay_item where (replay_id, position) > (%(replay)s::bigint, %(after)s::bigint)
  order by replay_id, position limit %(limit)s::int) i
where replay_id = %(replay)s::bigint order by position

-- name: items_by_outcome  items of one outcome after a position, read by the one index that has this order
select position, dead_letter_id, revision, outcome, why, sent_at, finished_at from (
  select * from brokers_replay_item
  where (replay_id, outcome, position) > (%(replay)s::bigint, %(outcome)s::text, %(after)s::bigint)
  order by replay_id, outcome, position limit %(limit)s::int) i
where replay_id = %(replay)s::bigint and outcome = %(outcome)s::text order by position

-- name: of_letters  the newest replays of some dead letters; plans that nobody has applied are none
select w.id, i.replay_id, i.outcome, i.why, coalesce(i.finished_at, i.sent_at, i.created_at)
from unnest(%s::bigint[]) as w (id), lateral (
  select i.id, i.replay_id, i.outcome, i.why, i.finished_at, i.sent_at, r.created_at
  from brokers_replay_item i join brokers_replay r on r.id = i.replay_id
  where i.dead_letter_id = w.id and r.state <> 'planned' order by i.replay_id desc limit %s::int) i
order by w.id, i.replay_id desc

-- name: moving  how many replays are not over and not mere plans, up to a hundred
select count(*) from (select from brokers_replay where finished_at is null and state <> 'planned' limit 100) moving
