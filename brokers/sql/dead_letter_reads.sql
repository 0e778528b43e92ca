-- name: rows  dead letters by id, without bodies, attempts and traces
select d.id, d.state, d.reason, d.source_kind, d.source, d.group_name, d.partition, d.record_offset,
  d.record_timestamp, d.exchange, d.routing_key, d.message_id, d.correlation_id, d.priority, d.idempotency_key,
  d.exception_class, d.error, d.size, d.attempts, d.revision, d.replays, d.first_failed_at, d.failed_at,
  d.changed_at, d.note, g.fingerprint
from brokers_dead_letter d join brokers_failure_group g on g.id = d.failure_group_id
where d.id = any(%s::bigint[])

-- name: owners  whose dead letters these are
select id, source_kind, source, group_name from brokers_dead_letter where id = any(%s::bigint[])

-- name: bodies  bodies of one revision of each dead letter, values up to so many bytes, and a message's envelope
select r.dead_letter_id, r.key, substring(r.value from 1 for least(%s::bigint, 2147483647)::int), r.encoding, r.headers,
  d.envelope
from unnest(%s::bigint[], %s::int[]) w(id, number)
join brokers_dead_letter_revision r on r.dead_letter_id = w.id and r.number = w.number
join brokers_dead_letter d on d.id = w.id

-- name: replays  the newest replays of each dead letter, oldest of them first; plans are none
select i.* from unnest(%s::bigint[]) w(id), lateral (
  select i.dead_letter_id, i.replay_id, i.outcome, i.why, coalesce(i.finished_at, i.sent_at, p.created_at) as at
  from brokers_replay_item i join brokers_replay p on p.id = i.replay_id
  where i.dead_letter_id = w.id and p.state <> 'planned' order by i.id desc limit %s::int) i
order by i.dead_letter_id, i.replay_id

-- name: newest_failure  message, trace and frames of the newest attempt that has an error
select error, stacktrace, frames from brokers_dead_letter_attempt
where dead_letter_id = %s::bigint and exception_class <> '' order by number desc limit 1
