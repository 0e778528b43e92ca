-- name: limit_time  what the rest of the transaction's statements may take each
select set_config('statement_timeout', %s::text, true)

-- name: try_pattern  how many names a pattern is found in: of the queues there are, and of those given
select count(*) from (select q.name from brokers_queue q union all select unnest(%s::text[])) n where n.name ~ %s::text
