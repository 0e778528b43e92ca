-- name: append  one batch, at once: its base offset
select brokers_log_append(%s::int, %s::int, %s::bigint, %s::bigint, %s::smallint, %b::bytea)

-- name: append_call  one batch more in the same SELECT (part of a statement)
brokers_log_append(%s::int, %s::int, %s::bigint, %s::bigint, %s::smallint, %b::bytea)

-- name: append_many  batches of several partitions in ascending order, all or nothing: their base offsets
select brokers_log_append_many(%s::int[], %s::int[], %s::bigint[], %s::bigint[], %s::smallint[], %b::bytea[])

-- name: stage  one batch within the caller's transaction; its offset comes at commit
select brokers_log_stage(%s::int, %s::int, %s::bigint, %s::bigint, %s::smallint, %b::bytea)

-- name: fetch  whole batches from an offset on, until enough records or bytes
select base_offset, offset_span, base_ts, codec, payload from brokers_log_fetch(%s::int, %s::bigint, %s::int, %s::bigint)

-- name: fetch_with_bounds  the same in one round trip with the partition's bounds; one row without a batch at least
select bounds.earliest, bounds.latest, f.base_offset, f.offset_span, f.base_ts, f.codec, f.payload
from (
  select p.id, p.earliest_offset as earliest, greatest(p.earliest_offset, (
    select base_offset + offset_span from brokers_log_batch b
    where b.partition_id = p.id and b.base_offset >= 0 order by b.base_offset desc limit 1)) as latest
  from brokers_partition p where p.id = %s::int offset 0) bounds
left join lateral brokers_log_fetch(bounds.id, %s::bigint, %s::int, %s::bigint) f on true

-- name: bounds  the earliest offset and the one that the next record gets
select earliest_offset, brokers_log_latest(id) from brokers_partition where id = %s::int

-- name: fetch_partitions  `fetch_with_bounds` of several partitions, told apart by the number of their request
select w.n, b.earliest, b.latest, f.base_offset, f.offset_span, f.base_ts, f.codec, f.payload
from unnest(%s::int[], %s::bigint[]) with ordinality w (id, start, n)
cross join lateral (
  select p.earliest_offset as earliest, greatest(p.earliest_offset, (
    select base_offset + offset_span from brokers_log_batch b
    where b.partition_id = p.id and b.base_offset >= 0 order by b.base_offset desc limit 1)) as latest
  from brokers_partition p where p.id = w.id offset 0) b
left join lateral brokers_log_fetch(w.id, w.start, %s::int, %s::bigint) f on true

-- name: ends_of_topics  per partition of several topics in order: topic, partition's row, earliest, latest offset
select p.topic_id, p.id, p.earliest_offset, brokers_log_latest(p.id)
from brokers_partition p where p.topic_id = any(%s::bigint[]) order by p.topic_id, p.number

-- name: at_timestamp  base offset of the first batch with a record at or after the instant, or null
select brokers_log_at_timestamp(%s::int, %s::bigint)

-- name: bounds_of_topic  per partition: number, earliest, latest offset, bytes counted and those not yet counted
select p.number, p.earliest_offset, brokers_log_latest(p.id),
  coalesce(c.counted_bytes, 0) + coalesce((select sum(octet_length(payload)) from (
    select payload from brokers_log_batch b
    where b.partition_id = p.id and b.base_offset >= greatest(p.earliest_offset, c.counted_offset)
    order by b.base_offset limit 20000) tail), 0)::bigint
from brokers_partition p left join brokers_partition_count c on c.partition_id = p.id
where p.topic_id = %s::bigint order by p.number

-- name: topic  what publishing and fetching need to know of a topic
select t.id, t.partitioner, t.max_record_bytes, t.cleanup_policy,
  array(select p.id from brokers_partition p where p.topic_id = t.id order by p.number)
from brokers_topic t where t.name = %s::text

-- name: existing  which of these names topics have
select t.name from brokers_topic t where t.name = any(%s::text[])
