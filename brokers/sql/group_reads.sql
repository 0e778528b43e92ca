-- name: one  a group, with the number of its partitions
select g.id, g.name, g.generation, g.paused,
  (select count(*) from brokers_group_assignment a where a.group_id = g.id)
  + (select count(*) from brokers_committed_offset c where c.group_id = g.id)
from brokers_consumer_group g where g.name = %s::text

-- name: page  groups by name
select g.id, g.name, g.generation, g.paused,
  (select count(*) from brokers_group_assignment a where a.group_id = g.id)
  + (select count(*) from brokers_committed_offset c where c.group_id = g.id)
from brokers_consumer_group g where g.name > %s::text order by g.name limit %s::int

-- name: members  live members of the groups, in the order in which they joined
select group_id, id, member_id from brokers_group_member
where group_id = any(%s::bigint[]) and ended_at is null order by group_id, id

-- name: partitions  what the groups divide or have committed: offsets, owner and who shall own it
select x.group_id, t.name, p.number, c.committed_offset, brokers_log_latest(p.id), a.owner_id, a.target_id
from (select group_id, partition_id from brokers_group_assignment where group_id = any(%s::bigint[])
      union select group_id, partition_id from brokers_committed_offset where group_id = any(%s::bigint[])) x
join brokers_partition p on p.id = x.partition_id join brokers_topic t on t.id = p.topic_id
left join brokers_committed_offset c on c.group_id = x.group_id and c.partition_id = x.partition_id
left join brokers_group_assignment a on a.group_id = x.group_id and a.partition_id = x.partition_id
order by x.group_id, t.name, p.number
