-- name: remove  messages that have gone elsewhere
select brokers_queue_remove(%s::int, %s::bigint[], 'skipped'::text, 'gone'::text)
