-- name: failed  keeps a failed attempt at a message that is under a claim
with kept as (
  insert into brokers_message_attempt
    (message_id, number, started_at, ended_at, error, exception_class, stacktrace, frames, delay_ms, worker)
  select %(message)s::bigint, %(number)s::int, now.at - %(duration_ms)s::bigint * interval '1 millisecond', now.at,
    %(error)s::text, %(exception_class)s::text, %(stacktrace)s::text, %(frames)s::jsonb, %(delay_ms)s::bigint,
    %(worker)s::text
  from (select clock_timestamp() as at offset 0) now
)
update brokers_message set attempts = %(number)s::int where id = %(message)s::bigint and token = %(token)s::uuid

-- name: of  attempts at messages, in order
select message_id, number, started_at, ended_at, exception_class, delay_ms from brokers_message_attempt
where message_id = any(%s::bigint[]) order by message_id, number
