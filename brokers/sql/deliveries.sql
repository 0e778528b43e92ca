-- name: pending  attempts at records of a partition that nobody has settled, in order
select record_offset, number, started_at, ended_at, exception_class, delay_ms from brokers_delivery_attempt
where group_id = %s::bigint and partition_id = %s::int and record_offset >= %s::bigint and redelivery_id = 0
order by record_offset, number

-- name: pending_redeliveries  attempts at records of the lane, in order
select a.redelivery_id, a.number, a.started_at, a.ended_at, a.exception_class, a.delay_ms
from brokers_redelivery r join brokers_delivery_attempt a on a.group_id = r.group_id
  and a.partition_id = r.partition_id and a.record_offset = r.record_offset and a.redelivery_id = r.id
where r.id = any(%s::bigint[]) order by a.redelivery_id, a.number

-- name: back_off_left  seconds until the back-off of a record's last attempt is over
select greatest(extract(epoch from ended_at + delay_ms * interval '1 millisecond' - clock_timestamp()), 0)::float8
from brokers_delivery_attempt
where group_id = %s::bigint and partition_id = %s::int and record_offset = %s::bigint and redelivery_id = 0
order by number desc limit 1

-- name: begin  counts an attempt before the call
insert into brokers_delivery_attempt
  (group_id, partition_id, record_offset, redelivery_id, number, started_at, frames, worker)
values (%s::bigint, %s::int, %s::bigint, %s::bigint, %s::int, clock_timestamp(), '[]', %s::text)

-- name: failed  keeps attempts that failed, each begun or not
insert into brokers_delivery_attempt as a (group_id, partition_id, record_offset, redelivery_id, number, started_at,
  ended_at, error, exception_class, stacktrace, frames, delay_ms, worker)
select f.group_id, f.partition_id, x.record_offset, x.redelivery_id, x.number,
  f.now - f.duration_ms * interval '1 millisecond', f.now, f.error, f.exception_class, f.stacktrace, f.frames,
  f.delay_ms, f.worker
from (select %(group)s::bigint as group_id, %(partition)s::int as partition_id, clock_timestamp() as now,
  %(duration_ms)s::bigint as duration_ms, %(error)s::text as error, %(exception_class)s::text as exception_class,
  %(stacktrace)s::text as stacktrace, %(frames)s::jsonb as frames, %(delay_ms)s::bigint as delay_ms,
  %(worker)s::text as worker) f,
unnest(%(offsets)s::bigint[], %(redeliveries)s::bigint[], %(numbers)s::int[]) as x (record_offset, redelivery_id, number)
on conflict (group_id, partition_id, record_offset, redelivery_id, number) do update set ended_at = excluded.ended_at,
  error = excluded.error, exception_class = excluded.exception_class, stacktrace = excluded.stacktrace,
  frames = excluded.frames, delay_ms = excluded.delay_ms, worker = excluded.worker

-- name: follow_into_lane  the attempts at a record that this session has just parked become those of its redelivery
update brokers_delivery_attempt set redelivery_id = currval(pg_get_serial_sequence('brokers_redelivery', 'id'))
where group_id = %s::bigint and partition_id = %s::int and record_offset = %s::bigint and redelivery_id = 0

-- name: forget  removes the attempts at records that are handled
delete from brokers_delivery_attempt a
using unnest(%s::bigint[], %s::int[], %s::bigint[], %s::bigint[]) as x (group_id, partition_id, record_offset, redelivery_id)
where a.group_id = x.group_id and a.partition_id = x.partition_id and a.record_offset = x.record_offset
  and a.redelivery_id = x.redelivery_id

-- name: withdraw  an attempt that was counted before a call which the worker has survived
delete from brokers_delivery_attempt where group_id = %s::bigint and partition_id = %s::int
  and record_offset = %s::bigint and redelivery_id = %s::bigint and number = %s::int and worker = %s::text
  and ended_at is null

-- name: purge  removes attempts that nobody will come back to, a bounded number: of groups, partitions or records gone
delete from brokers_delivery_attempt where (group_id, partition_id, record_offset, redelivery_id, number) in (
  select a.group_id, a.partition_id, a.record_offset, a.redelivery_id, a.number from brokers_delivery_attempt a
  left join brokers_partition p on p.id = a.partition_id
  where a.started_at < clock_timestamp() - %s::bigint * interval '1 millisecond' and (p.id is null
    or not exists (select from brokers_consumer_group g where g.id = a.group_id)
    or a.redelivery_id = 0 and a.record_offset < p.earliest_offset
    or a.redelivery_id = 0 and a.record_offset < (select c.committed_offset from brokers_committed_offset c
      where c.group_id = a.group_id and c.partition_id = a.partition_id)
    or a.redelivery_id > 0 and not exists (select from brokers_redelivery r where r.id = a.redelivery_id))
  order by a.started_at limit %s::int)
