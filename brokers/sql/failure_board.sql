-- What the console shows of failures: every failure group on one page, its last day, its last replay.
-- Counters are those of the group and of the ledger's rows that are not folded yet.

-- name: groups  all failure groups, or that of one fingerprint, with exact counters; those with open dead letters first
with pending as (
  select failure_group_id,
    sum(change) filter (where state = 'open') as open,
    sum(change) filter (where state = 'replaying') as replaying,
    sum(change) filter (where state = 'replayed') as replayed,
    sum(change) filter (where state = 'resolved') as resolved,
    sum(change) filter (where state = 'discarded') as discarded,
    max(at) filter (where failures > 0) as failed_at
  from brokers_failure_change group by failure_group_id
)
select g.id, g.fingerprint, g.source_kind, g.source, g.group_name, g.handler, g.exception_class, g.frame, g.message,
  g.reason, g.first_failed_at, greatest(g.last_failed_at, p.failed_at),
  greatest(0, g.open_count + coalesce(p.open, 0))::bigint,
  greatest(0, g.replaying_count + coalesce(p.replaying, 0))::bigint,
  greatest(0, g.replayed_count + coalesce(p.replayed, 0))::bigint,
  greatest(0, g.resolved_count + coalesce(p.resolved, 0))::bigint,
  greatest(0, g.discarded_count + coalesce(p.discarded, 0))::bigint
from brokers_failure_group g left join pending p on p.failure_group_id = g.id
where %(fingerprint)s::text is null or g.fingerprint = %(fingerprint)s::text
order by g.open_count + coalesce(p.open, 0) > 0 desc, g.last_failed_at desc, g.id desc
limit %(limit)s::int

-- name: day  failures of these groups, counted in equal spans of so many seconds since then
select failure_group_id, floor((extract(epoch from minute) - %s::double precision) / %s::double precision)::int,
  sum(failures)::bigint
from brokers_failure_minute
where failure_group_id = any(%s::bigint[]) and minute >= to_timestamp(%s::double precision)
group by 1, 2

-- name: last_replays  of each of these groups the newest replay, among the last 50 replays and the first 20 items of each
select distinct on (d.failure_group_id) d.failure_group_id, r.id, r.state,
  r.succeeded + coalesce(c.succeeded, 0), r.failed_again + coalesce(c.failed_again, 0), r.created_at,
  exists (select from (
    select o.replays from brokers_dead_letter o where o.failure_group_id = d.failure_group_id and o.state = 'open'
    order by o.failed_at desc, o.id desc limit 50) newest where newest.replays > 0)
from (
  select * from brokers_replay where state not in ('planned', 'cancelled') order by id desc limit 50
) r
join brokers_replay_item i on i.replay_id = r.id and i.position < 20
join brokers_dead_letter d on d.id = i.dead_letter_id
left join lateral (
  select sum(succeeded) as succeeded, sum(failed_again) as failed_again from brokers_replay_change
  where replay_id = r.id
) c on true
where d.failure_group_id = any(%s::bigint[])
order by d.failure_group_id, r.id desc

-- name: still_open  failure groups with open dead letters and those letters, by whose they are; live replays; alerts
select g.source_kind, g.source, g.group_name, count(*)::bigint, sum(g.open_count + coalesce(p.open, 0))::bigint, null
from brokers_failure_group g
left join (
  select failure_group_id, sum(change) as open from brokers_failure_change where state = 'open'
  group by failure_group_id
) p on p.failure_group_id = g.id
where g.open_count + coalesce(p.open, 0) > 0
group by g.source_kind, g.source, g.group_name
union all
select null, null, null, id, null, consumers::text
from (select id, consumers from brokers_replay where state in ('waiting', 'canary', 'running', 'paused')
  order by id desc limit 100) r
union all
select 'alerts', null, null, count(*), null, null from brokers_alert where resolved_at is null and raised_at is not null

-- name: last_replay_end  when the newest of the finished replays ended
select max(finished_at) from (
  select finished_at from brokers_replay where finished_at is not null and sent > 0 order by id desc limit 50
) r

-- name: letters  dead letters of some replay items: whose they are, where from, and the key that was sent
select d.id, d.source_kind, d.source, d.group_name, d.partition, d.record_offset, d.message_id, d.state, v.key
from unnest(%s::bigint[], %s::int[]) as w (id, revision)
join brokers_dead_letter d on d.id = w.id
left join brokers_dead_letter_revision v on v.dead_letter_id = d.id and v.number = w.revision

-- name: readiness  of consumer groups: whether each is paused, and its live members, those that are listeners apart
select g.name, g.paused, count(m.id)::int, count(m.instance_id)::int
from brokers_consumer_group g left join brokers_group_member m on m.group_id = g.id and m.ended_at is null
where g.name = any(%s::text[]) group by g.id

-- name: queue_readiness  of queues: whether each is paused, and how many consumers it has
select q.name, q.paused, count(c.id)::int
from brokers_queue q left join brokers_queue_consumer c on c.queue_id = q.id and c.lapses_at > clock_timestamp()
where q.name = any(%s::text[]) group by q.id
