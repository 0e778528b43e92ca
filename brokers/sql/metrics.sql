-- name: topics  records ever counted and bytes held, of the first topics by name
select t.name, coalesce(sum(c.counted_offset), 0)::bigint, coalesce(sum(c.counted_bytes), 0)::bigint
from (select id, name from brokers_topic order by name limit %s::int) t
left join brokers_partition p on p.topic_id = t.id
left join brokers_partition_count c on c.partition_id = p.id group by t.id, t.name order by t.name

-- name: processes  live processes by kind
select kind, count(*) from brokers_process
where beat_at > clock_timestamp() - interval '10 seconds' group by kind

-- name: count  topics
select count(*) from brokers_topic
