-- What alert rules look at: a figure for each scope, those of unresolved alerts first, then the highest.
-- Counters are those of failure groups, or queues, and of the ledgers' rows that are not folded yet; neither dead letters
-- nor messages are scanned.

-- name: depth  open dead letters
with pending as (
  select failure_group_id, sum(change) as open from brokers_failure_change where state = 'open' group by 1
), figures as (
  select case when %(by_group)s::bool then 'group ' || f.group_name || ' of ' else '' end
      || f.source_kind || ' ' || f.source as scope,
    sum(f.open_count + coalesce(p.open, 0))::float8 as value
  from brokers_failure_group f left join pending p on p.failure_group_id = f.id
  where (f.source = %(source)s::text or %(any_source)s::bool and starts_with(f.source, %(source)s::text))
    and (f.group_name = %(group)s::text or %(any_group)s::bool and starts_with(f.group_name, %(group)s::text))
  group by 1
)
select scope, value from figures
order by scope = any(%(watched)s::text[]) desc, value desc, scope limit %(most)s::int

-- name: growth  dead letters in the last minute or in this one, whichever has more
with minutes as (
  select failure_group_id, minute, failures from brokers_failure_minute
  where minute >= date_trunc('minute', statement_timestamp()) - interval '1 minute'
  union all
  select failure_group_id, date_trunc('minute', at), failures from brokers_failure_change
  where failures > 0 and at >= date_trunc('minute', statement_timestamp()) - interval '1 minute'
), sums as (
  select case when %(by_group)s::bool then 'group ' || f.group_name || ' of ' else '' end
      || f.source_kind || ' ' || f.source as scope, m.minute, sum(m.failures) as failures
  from minutes m join brokers_failure_group f on f.id = m.failure_group_id
  where (f.source = %(source)s::text or %(any_source)s::bool and starts_with(f.source, %(source)s::text))
    and (f.group_name = %(group)s::text or %(any_group)s::bool and starts_with(f.group_name, %(group)s::text))
  group by 1, 2
), figures as (
  select scope, max(failures)::float8 as value from sums group by 1
)
select scope, value from figures
order by scope = any(%(watched)s::text[]) desc, value desc, scope limit %(most)s::int

-- name: oldest_age  seconds since the oldest open dead letter was given up
with pending as (
  select failure_group_id, sum(change) as open from brokers_failure_change where state = 'open' group by 1
), figures as (
  select case when %(by_group)s::bool then 'group ' || f.group_name || ' of ' else '' end
      || f.source_kind || ' ' || f.source as scope,
    extract(epoch from statement_timestamp() - min(oldest.failed_at))::float8 as value
  from brokers_failure_group f left join pending p on p.failure_group_id = f.id
  cross join lateral (
    select d.failed_at from brokers_dead_letter d where d.failure_group_id = f.id and d.state = 'open'
    order by d.failed_at, d.id limit 1) oldest
  where (f.source = %(source)s::text or %(any_source)s::bool and starts_with(f.source, %(source)s::text))
    and (f.group_name = %(group)s::text or %(any_group)s::bool and starts_with(f.group_name, %(group)s::text))
    and f.open_count + coalesce(p.open, 0) > 0
  group by 1
)
select scope, value from figures
order by scope = any(%(watched)s::text[]) desc, value desc, scope limit %(most)s::int

-- name: group_lag  records that consumer groups have not committed, of the partitions that they read
with figures as (
  select 'group ' || g.name || ' of topic ' || t.name as scope,
    sum(greatest(brokers_log_latest(p.id) - coalesce(c.committed_offset, a.start_offset), 0))::float8 as value
  from brokers_consumer_group g cross join lateral (
    select partition_id from brokers_group_assignment where group_id = g.id
    union select partition_id from brokers_committed_offset where group_id = g.id) x
  join brokers_partition p on p.id = x.partition_id join brokers_topic t on t.id = p.topic_id
  left join brokers_committed_offset c on c.group_id = g.id and c.partition_id = p.id
  left join brokers_group_assignment a on a.group_id = g.id and a.partition_id = p.id
  where (t.name = %(source)s::text or %(any_source)s::bool and starts_with(t.name, %(source)s::text))
    and (g.name = %(group)s::text or %(any_group)s::bool and starts_with(g.name, %(group)s::text))
  group by 1
)
select scope, value from figures where value is not null
order by scope = any(%(watched)s::text[]) desc, value desc, scope limit %(most)s::int

-- name: queue_depth  ready messages of queues
with figures as (
  select 'queue ' || q.name as scope, brokers_queue_ready(q.id)::float8 as value
  from brokers_queue q
  where q.name = %(source)s::text or %(any_source)s::bool and starts_with(q.name, %(source)s::text)
)
select scope, value from figures
order by scope = any(%(watched)s::text[]) desc, value desc, scope limit %(most)s::int

-- name: queue_age  seconds since the oldest ready message of queues was published: the first of each priority is looked at
with recursive heads as (
  select q.id as queue, q.name, m.priority, m.published_at
  from brokers_queue q cross join lateral (
    select priority, published_at from brokers_message
    where queue_id = q.id and lease_until is null and due_at is null order by priority, pos limit 1) m
  where q.name = %(source)s::text or %(any_source)s::bool and starts_with(q.name, %(source)s::text)
  union all
  select h.queue, h.name, m.priority, m.published_at
  from heads h cross join lateral (
    select priority, published_at from brokers_message
    where queue_id = h.queue and priority > h.priority and lease_until is null and due_at is null
    order by priority, pos limit 1) m
), figures as (
  select 'queue ' || name as scope, extract(epoch from clock_timestamp() - min(published_at))::float8 as value
  from heads group by name
)
select scope, value from figures
order by scope = any(%(watched)s::text[]) desc, value desc, scope limit %(most)s::int

-- name: past_growth  how often growth was there for long enough in the last day: runs of minutes, each with the one after
with sums as (
  select case when %(by_group)s::bool then f.group_name else '' end as grp, f.source_kind, f.source, m.minute
  from brokers_failure_minute m join brokers_failure_group f on f.id = m.failure_group_id
  where m.minute >= statement_timestamp() - interval '1 day'
    and (f.source = %(source)s::text or %(any_source)s::bool and starts_with(f.source, %(source)s::text))
    and (f.group_name = %(group)s::text or %(any_group)s::bool and starts_with(f.group_name, %(group)s::text))
  group by 1, 2, 3, 4 having sum(m.failures) >= %(threshold)s::float8
), runs as (
  select count(*) as minutes from (
    select grp, source_kind, source, minute
      - row_number() over (partition by grp, source_kind, source order by minute) * interval '1 minute' as run
    from sums) numbered
  group by grp, source_kind, source, run
)
select count(*) from runs where (minutes + 1) * 60 > %(for_seconds)s::int
