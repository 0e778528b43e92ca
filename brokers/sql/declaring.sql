-- name: has_consumers  whether anybody consumes a queue
select exists (select from brokers_queue_consumer c where c.queue_id = %s::int and c.lapses_at > clock_timestamp())

-- name: has_messages  whether a queue holds anything: ready, delayed or under a claim
select exists (select from brokers_message m where m.queue_id = %(queue)s::int and m.lease_until is null
    and m.due_at is null)
  or exists (select from brokers_message m where m.queue_id = %(queue)s::int and m.due_at is not null)
  or exists (select from brokers_message m where m.queue_id = %(queue)s::int and m.lease_until is not null)

-- name: messages  how many messages a queue holds, as its ledger counts them
select (coalesce((select c.messages from brokers_queue_count c where c.queue_id = %(queue)s::int), 0)
  + coalesce((select sum(x.arrived - x.gone) from brokers_queue_change x where x.queue_id = %(queue)s::int), 0))::bigint

-- name: used  a queue that expires was declared again
update brokers_queue set used_at = clock_timestamp() where id = %s::int and used_at < clock_timestamp()
