-- name: park  puts a record into its lane; behind one of its key that is there, and stays until this is committed
insert into brokers_redelivery (group_id, partition_id, topic, partition, record_offset, record_timestamp, due_at,
  cause, key, key_hash, held, value, encoding, headers, revision, first_failed_at)
select %(group)s::bigint, %(partition_id)s::int, %(topic)s::text, %(partition)s::int, %(offset)s::bigint,
  %(timestamp)s::bigint, clock_timestamp() + %(delay)s::bigint * interval '1 millisecond', 'retry', %(key)b::bytea,
  k.hash, k.hash is not null and brokers_lane_ahead(%(group)s::bigint, %(partition_id)s::int, k.hash), %(value)b::bytea,
  %(encoding)s::smallint, %(headers)b::bytea, 1, clock_timestamp()
from (select hashtextextended(encode(%(key)b::bytea, 'hex'), 0) as hash) k

-- name: postpone  a redelivery that failed is due again later
update brokers_redelivery set due_at = clock_timestamp() + %s::bigint * interval '1 millisecond' where id = %s::bigint

-- name: due  what may be handled now: oldest due first, behind each one those of its key, until enough rows or bytes
select id, cause, dead_letter_id, replay_item_id, revision, first_failed_at,
  record_timestamp, key, value, encoding, headers, record_offset, partition, topic
from brokers_lane_due(%s::bigint, %s::int, %s::int, %s::bigint, %b::bytea[])

-- name: next_due  partitions with something in the lane, and the seconds until the first of it is due
select partition_id, seconds from brokers_lane_next_due(%s::bigint, %s::int[])

-- name: newest  the last row up to the end of a lane, which may be another lane's
select partition_id, group_id, id from brokers_redelivery
where (partition_id, group_id, id) <= (%s::int, %s::bigint, 9223372036854775807)
order by partition_id desc, group_id desc, id desc limit 1

-- name: settle  these are handled: their items and dead letters say so; how many were there
select brokers_lane_settle(%s::bigint[], %s::bigint[])

-- name: give_back  revisions of dead letters into the lanes of the groups that failed, in the order given
with wanted as materialized (
  select w.ordinal, w.item, w.letter, w.group_id, w.revision, w.headers, d.partition_id, d.source, d.partition,
    d.record_offset, d.record_timestamp, d.first_failed_at, v.key, v.value, v.encoding,
    hashtextextended(encode(v.key, 'hex'), 0) as key_hash
  from unnest(%(items)s::bigint[], %(letters)s::bigint[], %(groups)s::bigint[], %(revisions)s::int[],
    %(headers)b::bytea[]) with ordinality as w (item, letter, group_id, revision, headers, ordinal)
  join brokers_dead_letter d on d.id = w.letter
  join brokers_dead_letter_revision v on v.dead_letter_id = w.letter and v.number = w.revision
), keys as (
  select distinct group_id, partition_id, key_hash from wanted where key_hash is not null
), ahead as materialized (
  select k.* from keys k where brokers_lane_ahead(k.group_id, k.partition_id, k.key_hash)
)
insert into brokers_redelivery (group_id, partition_id, topic, partition, record_offset, record_timestamp, due_at,
  cause, key, key_hash, held, value, encoding, headers, dead_letter_id, replay_item_id, revision, first_failed_at)
select w.group_id, w.partition_id, w.source, w.partition, w.record_offset, coalesce(w.record_timestamp, 0),
  clock.now, 'replay', w.key, w.key_hash, w.key_hash is not null and (a.key_hash is not null
    or row_number() over (partition by w.group_id, w.partition_id, w.key_hash order by w.ordinal) > 1),
  w.value, w.encoding, w.headers, w.letter, w.item, w.revision, w.first_failed_at
from (select clock_timestamp() as now) clock, wanted w
left join ahead a on a.group_id = w.group_id and a.partition_id = w.partition_id and a.key_hash = w.key_hash
order by w.ordinal

-- name: lost_lanes  lanes whose partition or group is no more
with recursive lane as (
  (select partition_id, group_id from brokers_redelivery order by partition_id, group_id limit 1)
  union all
  select n.partition_id, n.group_id from lane l, lateral (
    select r.partition_id, r.group_id from brokers_redelivery r
    where (r.partition_id, r.group_id) > (l.partition_id, l.group_id) order by r.partition_id, r.group_id limit 1) n
)
select l.partition_id, l.group_id from lane l
where not exists (select from brokers_partition p where p.id = l.partition_id)
  or not exists (select from brokers_consumer_group g where g.id = l.group_id) limit 100

-- name: remove_lost  removes some of a lane that nobody will serve; its items are skipped, its dead letters open again
with gone as (
  delete from brokers_redelivery where id = any(array(
    select id from brokers_redelivery where partition_id = %s::int and group_id = %s::bigint order by id limit %s::int))
  returning dead_letter_id, replay_item_id
), items as (
  update brokers_replay_item i set outcome = 'skipped', why = 'gone', finished_at = clock_timestamp()
  from gone g where i.id = g.replay_item_id and i.outcome = 'waiting'
), letters as (
  update brokers_dead_letter d set state = 'open', changed_at = clock_timestamp()
  from gone g where d.id = g.dead_letter_id and d.state = 'replaying'
)
select count(*) from gone
