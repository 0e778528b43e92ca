-- name: try_lock  whether this session may do a job now
select pg_try_advisory_lock(%s::int, %s::int)

-- name: unlock  lets others do it
select pg_advisory_unlock(%s::int, %s::int)

-- name: behind  partitions with batches that are not counted yet
select p.id, p.topic_id, greatest(coalesce(c.counted_offset, 0), p.earliest_offset)
from brokers_partition p left join brokers_partition_count c on c.partition_id = p.id
where brokers_log_latest(p.id) > greatest(coalesce(c.counted_offset, 0), p.earliest_offset)

-- name: count  adds a partition's next batches to the minutes and to its own count: how many batches
with tail as (
  select base_offset, offset_span, octet_length(payload) as size, stored_at from brokers_log_batch
  where partition_id = %(partition)s::int and base_offset >= %(offset)s::bigint order by base_offset limit %(batches)s::int
), minutes as (
  insert into brokers_topic_minute (topic_id, minute, records, bytes)
  select %(topic)s::bigint, date_trunc('minute', to_timestamp(stored_at / 1000.0)), sum(offset_span), sum(size)
  from tail group by 2
  on conflict (topic_id, minute) do update
  set records = brokers_topic_minute.records + excluded.records, bytes = brokers_topic_minute.bytes + excluded.bytes
), counted as (
  insert into brokers_partition_count as c (partition_id, counted_offset, counted_bytes)
  select %(partition)s::int, max(base_offset + offset_span), sum(size) from tail having count(*) > 0
  on conflict (partition_id) do update
  set counted_offset = excluded.counted_offset, counted_bytes = c.counted_bytes + excluded.counted_bytes
)
select count(*) from tail

-- name: forget_minutes  removes old minutes, a bounded number
delete from brokers_topic_minute where id in (
  select id from brokers_topic_minute where minute < now() - %s::int * interval '1 day' order by minute limit 10000)

-- name: expired  partitions whose oldest batch is past its topic's time, or that hold too many bytes
select p.id, p.earliest_offset, t.retention_ms, t.retention_bytes, coalesce(c.counted_bytes, 0),
  (extract(epoch from clock_timestamp()) * 1000)::bigint
from brokers_topic t join brokers_partition p on p.topic_id = t.id
left join brokers_partition_count c on c.partition_id = p.id
where t.cleanup_policy = 'delete' and (c.counted_bytes > t.retention_bytes or (t.retention_ms is not null and (
  select stored_at from brokers_log_batch b where b.partition_id = p.id and b.base_offset >= p.earliest_offset
  order by b.base_offset limit 1) < (extract(epoch from clock_timestamp()) * 1000)::bigint - t.retention_ms))
order by p.id limit 1000

-- name: oldest  a partition's oldest batches: end offset, time of storing, bytes
select base_offset + offset_span, stored_at, octet_length(payload) from brokers_log_batch
where partition_id = %s::int and base_offset >= %s::bigint order by base_offset limit %s::int

-- name: raise_earliest  moves a partition's earliest offset up, never down
update brokers_partition set earliest_offset = %(offset)s::bigint
where id = %(partition)s::int and earliest_offset < %(offset)s::bigint

-- name: remove_below_earliest  removes a bounded number of batches that no reader sees any more: how many
with gone as (
  delete from brokers_log_batch where partition_id = %(partition)s::int and base_offset = any(array(
    select b.base_offset from brokers_log_batch b, brokers_partition p
    where p.id = %(partition)s::int and b.partition_id = p.id and b.base_offset >= 0
      and b.base_offset < p.earliest_offset order by b.base_offset limit %(batches)s::int))
  returning base_offset, octet_length(payload) as size
), uncounted as (
  update brokers_partition_count c set counted_bytes = greatest(c.counted_bytes - s.size, 0)
  from (select sum(size) as size, max(base_offset) as last from gone) s
  where c.partition_id = %(partition)s::int and s.last < c.counted_offset
)
select count(*) from gone

-- name: half_removed  partitions with batches below their earliest offset
select p.id from brokers_partition p where exists (select from brokers_log_batch b
  where b.partition_id = p.id and b.base_offset >= 0 and b.base_offset < p.earliest_offset)
order by p.id limit 1000

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

-- name: compactable  partitions of compacted topics with enough that compaction has not seen
select p.id, t.name, p.number, p.earliest_offset, greatest(coalesce(c.cleaned_offset, 0), p.earliest_offset) as cleaned, latest
from brokers_topic t join brokers_partition p on p.topic_id = t.id
left join brokers_partition_count c on c.partition_id = p.id, brokers_log_latest(p.id) latest
where t.cleanup_policy = 'compact' and latest > greatest(coalesce(c.cleaned_offset, 0), p.earliest_offset)
  and (latest - greatest(coalesce(c.cleaned_offset, 0), p.earliest_offset))::float8
      >= %s::float8 * greatest(latest - p.earliest_offset, 1)
order by p.id limit 100

-- name: batches  some of a partition's batches in order
select base_offset, offset_span, base_ts, codec, payload, stored_at from brokers_log_batch
where partition_id = %s::int and base_offset >= %s::bigint and base_offset < %s::bigint order by base_offset limit %s::int

-- name: rewrite  puts a compacted batch in the place of the old one
update brokers_log_batch set codec = %s::smallint, base_ts = %s::bigint, last_ts = %s::bigint, payload = %b::bytea
where partition_id = %s::int and base_offset = %s::bigint

-- name: remove_batch  removes a batch of which nothing is left
delete from brokers_log_batch where partition_id = %s::int and base_offset = %s::bigint

-- name: cleaned  notes how far compaction came, and what it freed
insert into brokers_partition_count as c (partition_id, cleaned_offset) values (%(partition)s::int, %(offset)s::bigint)
on conflict (partition_id) do update set cleaned_offset = excluded.cleaned_offset,
  counted_bytes = greatest(c.counted_bytes - %(freed)s::bigint, 0)
