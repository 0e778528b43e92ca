-- name: settle  last in a queue listener's transaction: acknowledges what was handled, all of it or nothing
select brokers_queue_settle(%s::int, %s::bigint[], %s::uuid[], %s::boolean)

-- name: skip  removes what a replay gave back and was processed before
select brokers_queue_remove(%s::int, %s::bigint[], 'skipped', 'already_processed')
