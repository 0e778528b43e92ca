-- name: put  registers a consumer of a queue, or renews it: whether it is the first of those that are there
with put as (
  insert into brokers_queue_consumer as c (queue_id, name, kind, prefetch, lapses_at)
  values (%(queue)s::int, %(name)s::text, %(kind)s::text, %(prefetch)s::int,
    clock_timestamp() + %(lapse)s::bigint * interval '1 millisecond')
  on conflict (queue_id, name) do update
    set kind = excluded.kind, prefetch = excluded.prefetch, lapses_at = greatest(c.lapses_at, excluded.lapses_at)
  returning id
)
select not exists (select from brokers_queue_consumer o where o.queue_id = %(queue)s::int and o.id < put.id) from put

-- name: renew  lets a consumer last, if it is still there
update brokers_queue_consumer
set lapses_at = greatest(lapses_at, clock_timestamp() + %s::bigint * interval '1 millisecond')
where queue_id = %s::int and name = %s::text

-- name: renew_all  lets consumers of any queues last: those that are still there
update brokers_queue_consumer c
set lapses_at = greatest(c.lapses_at, clock_timestamp() + %s::bigint * interval '1 millisecond')
from unnest(%s::int[], %s::text[]) as x (queue_id, name)
where c.queue_id = x.queue_id and c.name = x.name
returning c.queue_id, c.name

-- name: renew_first  lets the first consumer of a queue last
update brokers_queue_consumer
set lapses_at = greatest(lapses_at, clock_timestamp() + %s::bigint * interval '1 millisecond')
where id = (select c.id from brokers_queue_consumer c where c.queue_id = %s::int order by c.id limit 1)

-- name: remove  takes a consumer away: its id
delete from brokers_queue_consumer where queue_id = %s::int and name = %s::text returning id

-- name: remove_lapsed  takes the consumers of a queue away that were not heard of in time: their ids
delete from brokers_queue_consumer where queue_id = %s::int and lapses_at <= clock_timestamp() returning id

-- name: lapsed  queues with consumers that were not heard of in time
select distinct c.queue_id from brokers_queue_consumer c where c.lapses_at <= clock_timestamp() order by 1 limit %s::int

-- name: first  who consumes a queue with a single active consumer, and since when as a number
select c.id, c.name from brokers_queue_consumer c where c.queue_id = %s::int order by c.id limit 1

-- name: give_back  makes some messages of a queue ready that are under a claim, but for those that failed too often
update brokers_message m set lease_until = null, returns = m.returns + %(returns)s::int where m.id = any(array(
  select x.id from brokers_message x
  where x.queue_id = %(queue)s::int and x.lease_until is not null
    and (%(most)s::int < 0 or x.deliveries - x.returns - %(returns)s::int <= %(most)s::int)
  order by x.lease_until limit %(limit)s::int for update))
returning m.id

-- name: used  keeps when a queue was used last
update brokers_queue set used_at = clock_timestamp() where id = %s::int
