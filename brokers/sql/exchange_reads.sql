-- name: page  exchanges by name with the number of their bindings
select e.id, e.name, e.type, e.alternate_exchange, e.created_at,
  (select count(*) from brokers_binding b where b.exchange_id = e.id)
from brokers_exchange e where e.name > %s::text and e.name like %s::text order by e.name limit %s::int

-- name: one  an exchange by its name
select e.id, e.name, e.type, e.alternate_exchange, e.created_at,
  (select count(*) from brokers_binding b where b.exchange_id = e.id)
from brokers_exchange e where e.name = %s::text

-- name: bindings_page  bindings by id
select b.id, e.name, q.name, t.name, b.routing_key, b.arguments, b.created_at
from brokers_binding b join brokers_exchange e on e.id = b.exchange_id
left join brokers_queue q on q.id = b.queue_id left join brokers_exchange t on t.id = b.to_exchange_id
where b.id > %s::bigint order by b.id limit %s::int

-- name: bindings_of  bindings from an exchange, to a queue, to an exchange, or several of these, by id
select b.id, e.name, q.name, t.name, b.routing_key, b.arguments, b.created_at
from brokers_binding b join brokers_exchange e on e.id = b.exchange_id
left join brokers_queue q on q.id = b.queue_id left join brokers_exchange t on t.id = b.to_exchange_id
where b.id > %(after)s::bigint and (%(exchange)s::text is null or e.name = %(exchange)s::text)
  and (%(queue)s::text is null or q.name = %(queue)s::text)
  and (%(to_exchange)s::text is null or t.name = %(to_exchange)s::text)
order by b.id limit %(limit)s::int

-- name: binding  a binding by its id
select b.id, e.name, q.name, t.name, b.routing_key, b.arguments, b.created_at
from brokers_binding b join brokers_exchange e on e.id = b.exchange_id
left join brokers_queue q on q.id = b.queue_id left join brokers_exchange t on t.id = b.to_exchange_id
where b.id = %s::bigint
