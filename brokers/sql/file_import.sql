-- name: lock_wait  how long the transaction's next lock is waited for, in milliseconds
select set_config('lock_timeout', %s::text, true)

-- name: lock  the session's, on one import
select pg_advisory_lock(%s::int, %s::int)

-- name: unlock  lets others import the file
select pg_advisory_unlock(%s::int, %s::int)
