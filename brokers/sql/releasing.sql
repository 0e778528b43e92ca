-- name: held  a message under a claim, locked: its id, the claim's token and who holds it
select m.pos, m.token, m.holder from brokers_message m
where m.queue_id = %s::int and m.id = %s::bigint and m.lease_until is not null for no key update of m
