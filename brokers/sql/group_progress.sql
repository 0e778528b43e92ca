-- name: page  groups by name, with the number of their partitions; only those that read the topic, if one is given
select g.id, g.name, g.generation, g.paused,
  (select count(*) from brokers_group_assignment a where a.group_id = g.id)
  + (select count(*) from brokers_committed_offset c where c.group_id = g.id)
from brokers_consumer_group g
where g.name > %(after)s::text and g.name like %(prefix)s::text and (%(topic)s::text is null or exists (
  select from brokers_topic t join brokers_partition p on p.topic_id = t.id where t.name = %(topic)s::text and (
    exists (select from brokers_group_assignment a where a.group_id = g.id and a.partition_id = p.id)
    or exists (select from brokers_committed_offset c where c.group_id = g.id and c.partition_id = p.id))))
order by g.name limit %(many)s::int

-- name: one  a group
select g.id, g.name, g.generation, g.paused, 0 from brokers_consumer_group g where g.name = %s::text

-- name: members  live members of the groups in the order in which they joined, with what ended a session that is over
select m.group_id, m.id, m.member_id, m.instance_id, m.joined_at, m.heartbeat_at, m.session_timeout_ms,
  brokers_member_overdue(m.heartbeat_at, m.session_timeout_ms, m.polled_at, m.max_poll_interval_ms), clock_timestamp()
from brokers_group_member m where m.group_id = any(%s::bigint[]) and m.ended_at is null order by m.group_id, m.id

-- name: partitions  what the groups divide or have committed, and when the oldest record that they have not read was stored
select x.group_id, t.name, p.number, p.id, p.earliest_offset, l.latest, c.committed_offset, c.committed_at,
  a.start_offset, a.owner_id, a.target_id, coalesce(a.careful, false),
  (extract(epoch from clock_timestamp()) * 1000)::bigint - u.stored_at
from (select group_id, partition_id from brokers_group_assignment where group_id = any(%(groups)s::bigint[])
      union select group_id, partition_id from brokers_committed_offset where group_id = any(%(groups)s::bigint[])) x
join brokers_partition p on p.id = x.partition_id join brokers_topic t on t.id = p.topic_id
left join brokers_committed_offset c on c.group_id = x.group_id and c.partition_id = x.partition_id
left join brokers_group_assignment a on a.group_id = x.group_id and a.partition_id = x.partition_id
cross join lateral (select brokers_log_latest(p.id) as latest, coalesce(c.committed_offset, a.start_offset) as next
  offset 0) l
left join lateral (
  select b.stored_at from brokers_log_batch b
  where b.partition_id = p.id and b.base_offset >= coalesce((
      select h.base_offset from brokers_log_batch h
      where h.partition_id = p.id and h.base_offset between 0 and greatest(l.next, p.earliest_offset)
      order by h.base_offset desc limit 1), 0)
    and b.base_offset + b.offset_span > greatest(l.next, p.earliest_offset) and l.next < l.latest
  order by b.base_offset limit 1) u on true
order by x.group_id, t.name, p.number

-- name: figures  open dead letters of the groups, with what is not folded yet, and redeliveries that wait, up to a bound
select x.id, coalesce((
    select sum(f.open_count + coalesce((select sum(c.change) from brokers_failure_change c
      where c.failure_group_id = f.id and c.state = 'open'), 0))
    from brokers_failure_group f where f.group_name = x.name and f.source_kind = 'topic'), 0)::bigint,
  (select count(*) from (select from brokers_redelivery r where r.group_id = x.id
    order by r.partition_id, r.due_at, r.id limit %s::int) bounded)
from unnest(%s::bigint[], %s::text[]) as x (id, name)

-- name: going_on  by partition: the newest attempt where the group stands, its lane, and milliseconds until each goes on
select x.id, d.record_offset, d.number, d.exception_class, d.ended_at is null,
  (extract(epoch from d.ended_at - clock_timestamp()) * 1000)::bigint + d.delay_ms,
  lane.waiting, (extract(epoch from lane.due_at - clock_timestamp()) * 1000)::bigint
from unnest(%(partitions)s::int[], %(positions)s::bigint[]) as x (id, next)
left join lateral (
  select a.record_offset, a.number, a.exception_class, a.ended_at, a.delay_ms from brokers_delivery_attempt a
  where a.group_id = %(group)s::bigint and a.partition_id = x.id and a.record_offset >= x.next and a.redelivery_id = 0
  order by a.record_offset desc, a.redelivery_id desc, a.number desc limit 1) d on true
cross join lateral (
  select count(*) as waiting, min(due_at) as due_at from (
    select r.due_at from brokers_redelivery r where r.group_id = %(group)s::bigint and r.partition_id = x.id
    order by r.due_at, r.id limit %(many)s::int) bounded) lane
where d.number is not null or lane.waiting > 0

-- name: keeps_processed  whether a consumer has records of what it processed
select exists (select from processed_messages where consumer = %s::text)
