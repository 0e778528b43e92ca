-- name: page  topics by name with the offsets and counted bytes of their partitions summed
with shown as (
  select id, name, cleanup_policy, retention_ms, created_at from brokers_topic
  where name > %s::text and name like %s::text order by name limit %s::int
)
select shown.id, shown.name, p.partitions, p.records, p.bytes, shown.cleanup_policy, shown.retention_ms, shown.created_at
from shown, lateral (
  select count(*) as partitions, coalesce(sum(brokers_log_latest(id) - earliest_offset), 0)::bigint as records,
    coalesce(sum(c.counted_bytes), 0)::bigint as bytes
  from brokers_partition left join brokers_partition_count c on c.partition_id = id where topic_id = shown.id) p
order by shown.name

-- name: totals  topics, and records counted by the roll-ups
select (select count(*) from brokers_topic),
  (select coalesce(sum(greatest(c.counted_offset - p.earliest_offset, 0)), 0)::bigint
    from brokers_partition p join brokers_partition_count c on c.partition_id = p.id)
