-- name: try_lock  whether this session may do a job now
select pg_try_advisory_lock(%s::int, %s::int)

-- name: unlock  lets others do it
select pg_advisory_unlock(%s::int, %s::int)

-- name: behind  partitions with batches that are not counted yet
select p.id, coalesce(c.counted_offset, 0)
from brokers_partition p left join brokers_partition_count c on c.partition_id = p.id,
lateral (select from brokers_log_batch b where b.partition_id = p.id
  and b.base_offset >= coalesce(c.counted_offset, 0) order by b.base_offset limit 1) newer
order by p.id

-- name: count  adds the next batches of some partitions to the minutes and to their own counts: how far each is counted
with wanted as (
  select * from unnest(%(partitions)s::int[], %(offsets)s::bigint[]) as w (partition_id, counted)
), tail as (
  select p.id, p.topic_id, b.base_offset + b.offset_span as past, b.offset_span, b.size, b.stored_at,
    b.base_offset >= p.earliest_offset as kept
  from wanted w join brokers_partition p on p.id = w.partition_id,
  lateral (select base_offset, offset_span, octet_length(payload) as size, stored_at from brokers_log_batch
    where partition_id = w.partition_id and base_offset >= w.counted order by base_offset limit %(batches)s::int) b
), minutes as (
  insert into brokers_topic_minute (topic_id, minute, records, bytes)
  select topic_id, date_trunc('minute', to_timestamp(stored_at / 1000.0)), sum(offset_span), sum(size)
  from tail group by 1, 2 order by 1, 2
  on conflict (topic_id, minute) do update
  set records = brokers_topic_minute.records + excluded.records, bytes = brokers_topic_minute.bytes + excluded.bytes
), counted as (
  insert into brokers_partition_count as c (partition_id, counted_offset, counted_bytes)
  select id, max(past), coalesce(sum(size) filter (where kept), 0) from tail group by id order by id
  on conflict (partition_id) do update
  set counted_offset = excluded.counted_offset, counted_bytes = c.counted_bytes + excluded.counted_bytes
)
select id, max(past), count(*) from tail group by id

-- name: forget_minutes  removes old minutes, a bounded number
delete from brokers_topic_minute where id in (
  select id from brokers_topic_minute where minute < now() - %s::int * interval '1 day' order by minute limit 10000)

-- name: expired  partitions whose oldest batch is past its topic's time, or too much for its topic's size
select p.id, p.earliest_offset, t.retention_ms, t.retention_bytes, clock.ms
from (select (extract(epoch from clock_timestamp()) * 1000)::bigint as ms) clock,
brokers_topic t join brokers_partition p on p.topic_id = t.id join brokers_partition_count c on c.partition_id = p.id,
lateral (select stored_at, octet_length(payload) as size from brokers_log_batch b where b.partition_id = p.id
  and b.base_offset >= p.earliest_offset and b.base_offset < c.counted_offset order by b.base_offset limit 1) oldest
where t.cleanup_policy = 'delete' and p.earliest_offset < c.counted_offset
  and (t.retention_ms is not null or c.counted_bytes >= t.retention_bytes)
  and (oldest.stored_at < clock.ms - t.retention_ms or c.counted_bytes - oldest.size >= t.retention_bytes)
order by p.id limit 1000

-- name: oldest  a partition's oldest batches that are counted: end offset, time of storing, bytes
select base_offset + offset_span, stored_at, octet_length(payload) from brokers_log_batch
where partition_id = %s::int and base_offset >= %s::bigint and base_offset < %s::bigint
order by base_offset limit %s::int

-- name: lock_count  keeps retention and compaction from working on a partition at once: how far it is counted, its bytes
select counted_offset, counted_bytes from brokers_partition_count where partition_id = %s::int for update

-- name: raise_earliest  moves a partition's earliest offset up, never down, and takes what falls below out of its bytes
with raised as (
  update brokers_partition set earliest_offset = %(offset)s::bigint
  where id = %(partition)s::int and earliest_offset = %(earliest)s::bigint and earliest_offset < %(offset)s::bigint
  returning id
)
update brokers_partition_count c set counted_bytes = greatest(c.counted_bytes - below.size, 0),
  cleaned_bytes = greatest(c.cleaned_bytes - below.size, 0)
from raised, (select sum(octet_length(payload)) as size from brokers_log_batch where partition_id = %(partition)s::int
  and base_offset >= %(earliest)s::bigint and base_offset < %(offset)s::bigint) below
where c.partition_id = raised.id

-- name: remove_below_earliest  removes a bounded number of batches that no reader sees any more: how many
with gone as (
  delete from brokers_log_batch where partition_id = %(partition)s::int and base_offset = any(array(
    select b.base_offset from brokers_partition p join brokers_partition_count c on c.partition_id = p.id
    join brokers_log_batch b on b.partition_id = p.id
    where p.id = %(partition)s::int and b.partition_id = %(partition)s::int and b.base_offset >= 0
      and b.base_offset < least(p.earliest_offset, c.counted_offset) order by b.base_offset limit %(batches)s::int))
  returning 1
)
select count(*) from gone

-- name: half_removed  partitions with batches below their earliest offset
select p.id from brokers_partition p join brokers_partition_count c on c.partition_id = p.id,
lateral (select from brokers_log_batch b where b.partition_id = p.id and b.base_offset >= 0
  and b.base_offset < least(p.earliest_offset, c.counted_offset) order by b.base_offset limit 1) below
where p.earliest_offset > 0 order by p.id limit 1000

-- name: deleted  partitions of deleted topics
select partition_id from brokers_deleted_partition order by partition_id limit 1000

-- name: remove_deleted  removes a bounded number of batches of a deleted partition: how many
with gone as (
  delete from brokers_log_batch where partition_id = %(partition)s::int and base_offset = any(array(
    select base_offset from brokers_log_batch where partition_id = %(partition)s::int
    order by base_offset limit %(batches)s::int))
  returning 1
)
select count(*) from gone

-- name: forget_deleted  nothing is left of a deleted partition
delete from brokers_deleted_partition where partition_id = %s::int

-- name: compactable  partitions of compacted topics of whose counted bytes enough came since the last compaction
select p.id, t.name, p.number, p.earliest_offset, greatest(c.cleaned_offset, p.earliest_offset), c.counted_offset
from brokers_topic t join brokers_partition p on p.topic_id = t.id join brokers_partition_count c on c.partition_id = p.id
where t.cleanup_policy = 'compact' and c.counted_offset > greatest(c.cleaned_offset, p.earliest_offset)
  and (c.counted_bytes - c.cleaned_bytes)::float8 >= %s::float8 * c.counted_bytes
order by p.id limit 100

-- name: earliest  a partition's earliest offset now, and what time it is in Unix milliseconds
select earliest_offset, (extract(epoch from clock_timestamp()) * 1000)::bigint from brokers_partition where id = %s::int

-- name: batches  some of a partition's batches in order, until enough batches or bytes
select base_offset, offset_span, base_ts, codec, payload, stored_at from (
  select *, sum(octet_length(payload)) over (order by base_offset) - octet_length(payload) as before from (
    select base_offset, offset_span, base_ts, codec, payload, stored_at from brokers_log_batch
    where partition_id = %s::int and base_offset >= %s::bigint and base_offset < %s::bigint
    order by base_offset limit %s::int) next) measured
where before < %s::bigint order by base_offset

-- name: rewrite  puts a compacted batch in the place of the old one
update brokers_log_batch set codec = %s::smallint, base_ts = %s::bigint, last_ts = %s::bigint, payload = %b::bytea
where partition_id = %s::int and base_offset = %s::bigint

-- name: remove_batch  removes a batch of which nothing is left
delete from brokers_log_batch where partition_id = %s::int and base_offset = %s::bigint

-- name: free  takes what compaction removed out of a partition's bytes
update brokers_partition_count set counted_bytes = greatest(counted_bytes - %s::bigint, 0) where partition_id = %s::int

-- name: cleaned  notes how far compaction came, and the bytes that it left below
update brokers_partition_count set cleaned_offset = %s::bigint, cleaned_bytes = %s::bigint where partition_id = %s::int
