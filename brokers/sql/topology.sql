-- name: load  the version, and unless it is the known one, exchanges, queues with their policies, and bindings as JSON
select v.version, case when v.version <> %s::bigint then (
    select json_agg(json_build_array(e.id, e.name, e.type, e.alternate_exchange))::text from brokers_exchange e) end,
  case when v.version <> %s::bigint then (
    select json_agg(json_build_array(q.id, q.name, q.max_priority, q.single_active_consumer, q.dead_letters, q.paused,
      q.temporary,
      json_build_array(q.message_ttl_ms, q.expires_ms, q.max_length, q.overflow, q.dead_letter_exchange,
        q.dead_letter_routing_key, q.delivery_limit),
      p.name,
      case when p.name is not null then json_build_array(p.message_ttl_ms, p.expires_ms, p.max_length, p.overflow,
        p.dead_letter_exchange, p.dead_letter_routing_key, p.delivery_limit) end))::text
    from brokers_queue q left join (
      select distinct on (fits.id) fits.id as queue_id, p.*
      from brokers_queue_policy p, lateral (select q.id from brokers_queue q where q.name ~ p.pattern offset 0) fits
      order by fits.id, p.priority desc, p.name) p on p.queue_id = q.id) end,
  case when v.version <> %s::bigint then (
    select json_agg(json_build_array(b.id, e.name, q.name, t.name, b.routing_key, b.arguments))::text
    from brokers_binding b join brokers_exchange e on e.id = b.exchange_id
    left join brokers_queue q on q.id = b.queue_id left join brokers_exchange t on t.id = b.to_exchange_id) end
from (select brokers_topology_version() as version offset 0) v

-- name: changed  takes the topology for this transaction and raises its version
select brokers_topology_changed()
