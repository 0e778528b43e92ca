-- name: open  a group's id, made when missing, its row and assignments locked
select brokers_group_open(%s::text)

-- name: find  a group's id, generation and whether it is paused
select id, generation, paused from brokers_consumer_group where name = %s::text

-- name: lock  the group's row and assignments: its generation
select brokers_group_lock(%s::bigint)

-- name: end  under the lock: ends the session of one member, and of all that are overdue: how many
select brokers_group_end(%s::bigint, %s::bigint)

-- name: replace  under the lock: ends the live member of an instance id: its row and topics, if there was one
select former, former_topics from brokers_group_replace(%s::bigint, %s::text)

-- name: inherit  under the lock: gives what a replaced member owned to its successor: the generation
select brokers_group_inherit(%s::bigint, %s::bigint, %s::bigint)

-- name: missing_topics  those names that no topic has
select x.name from unnest(%s::text[]) as x (name)
where not exists (select from brokers_topic t where t.name = x.name) order by x.name

-- name: enrol  a new member: its row
insert into brokers_group_member (group_id, member_id, topics, session_timeout_ms, max_poll_interval_ms,
  auto_offset_reset, instance_id, generation, joined_at, heartbeat_at, polled_at)
values (%s::bigint, %s::text, %s::text[], %s::int, %s::int, %s::text, %s::text, 0,
  clock_timestamp(), clock_timestamp(), clock_timestamp())
returning id

-- name: live  members that are not ended, in the order in which they joined, with their topics
select id, topics::text[] from brokers_group_member where group_id = %s::bigint and ended_at is null order by id

-- name: divisible  partitions of the topics, with their owners
select p.id, t.name::text, a.owner_id from brokers_topic t
join brokers_partition p on p.topic_id = t.id
left join brokers_group_assignment a on a.group_id = %s::bigint and a.partition_id = p.id
where t.name = any(%s::text[]) order by p.id

-- name: divide  under the lock: writes the new division: the new generation
select brokers_group_divide(%s::bigint, %s::int[], %s::bigint[])

-- name: hear  notes the generation that a new member is told
update brokers_group_member set generation = %s::bigint where id = %s::bigint

-- name: owned  what a member owns
select t.name::text, p.number, a.claimed_generation from brokers_group_assignment a
join brokers_partition p on p.id = a.partition_id join brokers_topic t on t.id = p.topic_id
where a.owner_id = %s::bigint order by t.name, p.number

-- name: undivided  whether sessions are over, or partitions came or went
select brokers_group_undivided(%s::bigint)

-- name: member  a member's row in a group, with what ended it
select m.group_id, m.id, m.end_reason from brokers_group_member m join brokers_consumer_group g on g.id = m.group_id
where m.member_id = %s::text and g.name = %s::text

-- name: overdue  groups in which a session is over
select distinct group_id from brokers_group_member where ended_at is null and brokers_member_overdue(
  heartbeat_at, session_timeout_ms, polled_at, max_poll_interval_ms) is not null limit %s::int

-- name: limit_lock_wait  for the rest of the transaction
select set_config('lock_timeout', %s::text, true)

-- name: forget_members  removes members that ended long ago, a bounded number
delete from brokers_group_member where id in (
  select id from brokers_group_member where ended_at < clock_timestamp() - %s::bigint * interval '1 millisecond'
  order by ended_at limit %s::int)

-- name: forget_offsets  removes offsets committed for partitions that are gone, a bounded number
delete from brokers_committed_offset where (group_id, partition_id) in (
  select c.group_id, c.partition_id from brokers_committed_offset c
  where not exists (select from brokers_partition p where p.id = c.partition_id) limit %s::int)

-- name: poll  a member's heartbeat: what it owns, and where it stands
select status, group_id, member, generation, heard, paused, reset, pace_ms, subscribed, partition_ids, topics,
  numbers, claims, positions, committed, starts, earliest, latest, awaited, released
from brokers_group_poll(%s::text, %s::text, %s::boolean, %s::boolean, %s::boolean)

-- name: fetch  batches of several partitions, each from its offset on
select partition_id, base_offset, offset_span, base_ts, codec, payload
from brokers_group_fetch(%s::int[], %s::bigint[], %s::int, %s::bigint)

-- name: advance  moves positions that nobody else has moved: which
select brokers_group_advance(%s::bigint, %s::bigint, %s::int[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
  %s::boolean[], %s::boolean, %s::boolean)

-- name: commit  commits offsets, all or none: how it went
select status, at, fact
from brokers_group_commit(%s::text, %s::text, %s::bigint, %s::text[], %s::int[], %s::bigint[])

-- name: committed  a group's committed offsets of some partitions
select partition_id, committed_offset from brokers_committed_offset
where group_id = %s::bigint and partition_id = any(%s::int[])

-- name: move  under the lock: sets offsets, in a new generation
select brokers_group_move(%s::bigint, %s::int[], %s::bigint[])

-- name: pause  under the lock: whether members get records
update brokers_consumer_group set paused = %s::boolean where id = %s::bigint

-- name: partitions  those that a group divides
select partition_id from brokers_group_assignment where group_id = %s::bigint

-- name: bounds  earliest offset of partitions, and the one that the next record gets
select id, earliest_offset, brokers_log_latest(id) from brokers_partition where id = any(%s::int[])

-- name: standing  what the group of that name has committed of some partitions
select c.partition_id, c.committed_offset from brokers_committed_offset c
where c.group_id = (select id from brokers_consumer_group where name = %s::text) and c.partition_id = any(%s::int[])

-- name: uncommit  under the lock: leaves nothing committed for partitions
delete from brokers_committed_offset where group_id = %s::bigint and partition_id = any(%s::int[])
