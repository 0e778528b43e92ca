-- name: page  queues by name: all, or those paused, with messages, without a consumer, or longer than five minutes ago
select q.id, q.name, q.message_ttl_ms, q.expires_ms, q.max_length, q.overflow, q.max_priority, q.dead_letter_exchange,
  q.dead_letter_routing_key, q.delivery_limit, q.single_active_consumer, q.dead_letters, q.paused, q.temporary,
  q.created_at
from brokers_queue q
where q.name > %(after)s::text and q.name like %(pattern)s::text
  and case %(only)s::text
    when 'paused' then q.paused
    when 'waiting' then exists (select from brokers_message m
        where m.queue_id = q.id and m.lease_until is null and m.due_at is null)
      or exists (select from brokers_message m where m.queue_id = q.id and m.lease_until is not null)
      or exists (select from brokers_message m where m.queue_id = q.id and m.due_at is not null)
    when 'unconsumed' then not exists (select from brokers_queue_consumer c
      where c.queue_id = q.id and c.lapses_at > clock_timestamp())
    when 'growing' then 0 < (select sum(m.arrived - m.gone) from brokers_queue_minute m
      where m.queue_id = q.id and m.minute >= date_trunc('minute', clock_timestamp()) - interval '5 minutes')
    else true end
order by q.name limit %(limit)s::int

-- name: one  a queue by its name
select q.id, q.name, q.message_ttl_ms, q.expires_ms, q.max_length, q.overflow, q.max_priority, q.dead_letter_exchange,
  q.dead_letter_routing_key, q.delivery_limit, q.single_active_consumer, q.dead_letters, q.paused, q.temporary,
  q.created_at
from brokers_queue q where q.name = %s::text

-- name: states  of each of the queues its live consumers, and when its oldest ready message was published
select q.id,
  (select count(*) from brokers_queue_consumer c where c.queue_id = q.id and c.lapses_at > clock_timestamp()),
  (select min(h.published_at) from generate_series(0, coalesce(q.max_priority, 0)) p, lateral (
    select m.published_at from brokers_message m
    where m.queue_id = q.id and m.priority = p and m.lease_until is null and m.due_at is null
    order by m.pos limit 1) h)
from brokers_queue q where q.id = any(%s::int[])

-- name: ids  queues by id, for sums over all of them
select q.id from brokers_queue q where q.id > %s::int order by q.id limit %s::int
