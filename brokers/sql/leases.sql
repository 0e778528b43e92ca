-- name: extend  renews the leases of messages whose handlers run, but for those being settled right now
with given as (
  select * from unnest(%s::bigint[], %s::uuid[], %s::bigint[]) as x (id, token, lease_ms)
), mine as materialized (
  select m.id, x.lease_ms from brokers_message m join given x on x.id = m.id and x.token = m.token
  where m.lease_until is not null order by m.id for update of m skip locked
)
update brokers_message m set lease_until = clock_timestamp() + mine.lease_ms * interval '1 millisecond'
from mine where m.id = mine.id

-- name: beat  lets consumers of queues last from now on for as long as each says: those that are known
update brokers_queue_consumer c set lapses_at = clock_timestamp() + x.lapse_ms * interval '1 millisecond'
from unnest(%s::int[], %s::text[], %s::bigint[]) as x (queue_id, name, lapse_ms)
where c.queue_id = x.queue_id and c.name = x.name
returning c.queue_id, c.name

-- name: take_back  ends the leases of a consumer that is no more: its successor has its name
with mine as materialized (
  select m.id from brokers_message m
  where m.queue_id = %s::int and m.lease_until is not null and m.holder = %s::text
  order by m.id for update of m skip locked
)
update brokers_message m set lease_until = clock_timestamp() from mine where m.id = mine.id

-- name: next_due  seconds until the next delayed message of a queue is due and the next lease lapses; null: there is none
select
  (select extract(epoch from m.due_at - clock_timestamp())::float8 from brokers_message m
    where m.queue_id = q.id and m.due_at is not null order by m.due_at limit 1),
  (select extract(epoch from m.lease_until - clock_timestamp())::float8 from brokers_message m
    where m.queue_id = q.id and m.lease_until is not null order by m.lease_until limit 1)
from (select %s::int as id) q
