-- name: group  the failure group of a fingerprint
select id from brokers_failure_group where fingerprint = %s::text

-- name: add_group  a new failure group, unless another was quicker
insert into brokers_failure_group
  (fingerprint, version, source_kind, source, group_name, handler, exception_class, frame, message, reason)
values (%s::text, %s::smallint, %s::text, %s::text, %s::text, %s::text, %s::text, %s::text, %s::text, %s::text)
on conflict (fingerprint) do nothing returning id

-- name: add  dead letters of one failure group, each with its first revision and the attempts at it: their ids in order
with given as (
  select nextval(pg_get_serial_sequence('brokers_dead_letter', 'id')) as id, g.*
  from unnest(%(messages)s::bigint[], %(exchanges)s::text[], %(routing_keys)s::text[], %(message_ids)s::text[],
    %(correlation_ids)s::text[], %(idempotency_keys)s::text[], %(errors)s::text[], %(priorities)s::smallint[],
    %(first_failed)s::timestamptz[], %(sizes)s::int[], %(keys)b::bytea[], %(no_keys)s::boolean[],
    %(values)b::bytea[], %(no_values)s::boolean[], %(encodings)s::smallint[], %(headers)b::bytea[],
    %(envelopes)b::bytea[])
    with ordinality as g (message, exchange, routing_key, message_id, correlation_id, idempotency_key, error, priority,
      first_failed_at, size, key, no_key, value, no_value, encoding, headers, envelope, place)
), of_record as (
  delete from brokers_delivery_attempt where group_id = %(group_id)s::bigint
    and partition_id = %(partition_id)s::int and record_offset = %(offset)s::bigint
    and redelivery_id = %(redelivery)s::bigint
  returning *
), of_messages as (
  delete from brokers_message_attempt where message_id = any(%(messages)s::bigint[]) returning *
), moved as (
  select 1 as place, number, started_at, ended_at, error, exception_class, stacktrace, frames, delay_ms, worker
  from of_record
  union all
  select g.place, m.number, m.started_at, m.ended_at, m.error, m.exception_class, m.stacktrace, m.frames, m.delay_ms,
    m.worker
  from of_messages m join given g on g.message = m.message_id
  union all
  select t.place, t.number, t.started_at, t.ended_at, t.error, t.exception_class, t.stacktrace, t.frames::jsonb,
    t.delay_ms, t.worker
  from unnest(%(try_places)s::int[], %(try_numbers)s::int[], %(try_starts)s::timestamptz[],
    %(try_ends)s::timestamptz[], %(try_errors)s::text[], %(try_classes)s::text[], %(try_traces)s::text[],
    %(try_frames)s::text[], %(try_delays)s::bigint[], %(try_workers)s::text[])
    as t (place, number, started_at, ended_at, error, exception_class, stacktrace, frames, delay_ms, worker)
), lane as (
  delete from brokers_redelivery where id = %(redelivery)s::bigint
), letters as (
  insert into brokers_dead_letter (id, reason, failure_group_id, source_kind, source, group_name, partition_id,
    partition, record_offset, record_timestamp, exchange, routing_key, message_id, correlation_id, idempotency_key,
    envelope, priority, exception_class, error, size, attempts, first_failed_at, failed_at, changed_at)
  overriding system value
  select g.id, %(reason)s::text, %(failure_group)s::bigint, %(source_kind)s::text, %(source)s::text, %(group)s::text,
    %(partition_id)s::int, %(partition)s::int, %(offset)s::bigint, %(timestamp)s::bigint, g.exchange, g.routing_key,
    g.message_id, g.correlation_id, g.idempotency_key, nullif(g.envelope, ''), g.priority, %(exception_class)s::text,
    g.error, g.size, (select count(*) from moved m where m.place = g.place),
    least(now.at, g.first_failed_at,
      (select min(coalesce(m.ended_at, m.started_at)) from moved m where m.place = g.place)), now.at, now.at
  from (select clock_timestamp() as at offset 0) now, given g order by g.place
), tries as (
  insert into brokers_dead_letter_attempt (dead_letter_id, number, started_at, ended_at, error, exception_class,
    stacktrace, frames, delay_ms, worker)
  select g.id, row_number() over (partition by g.id order by m.number), m.started_at, m.ended_at, m.error,
    m.exception_class, m.stacktrace, m.frames, m.delay_ms, m.worker
  from given g join moved m on m.place = g.place
), first as (
  insert into brokers_dead_letter_revision (dead_letter_id, number, key, value, encoding, headers)
  select id, 1, case when not no_key then key end, case when not no_value then value end, encoding, headers from given
)
select id from given order by place

-- name: reopen  a dead letter that was given back and failed again: its id, unless it is gone; the replay's item is settled
with was as (
  select id, failure_group_id, attempts from brokers_dead_letter where id = %(letter)s::bigint for update
), of_record as (
  delete from brokers_delivery_attempt where group_id = %(group_id)s::bigint
    and partition_id = %(partition_id)s::int and record_offset = %(offset)s::bigint
    and redelivery_id = %(redelivery)s::bigint and exists (select from was)
  returning *
), of_message as (
  delete from brokers_message_attempt where message_id = %(message)s::bigint and exists (select from was) returning *
), moved as (
  select number, started_at, ended_at, error, exception_class, stacktrace, frames, delay_ms, worker from of_record
  union all
  select number, started_at, ended_at, error, exception_class, stacktrace, frames, delay_ms, worker from of_message
  union all
  select t.number, t.started_at, t.ended_at, t.error, t.exception_class, t.stacktrace, t.frames::jsonb, t.delay_ms,
    t.worker
  from unnest(%(try_places)s::int[], %(try_numbers)s::int[], %(try_starts)s::timestamptz[],
    %(try_ends)s::timestamptz[], %(try_errors)s::text[], %(try_classes)s::text[], %(try_traces)s::text[],
    %(try_frames)s::text[], %(try_delays)s::bigint[], %(try_workers)s::text[])
    as t (place, number, started_at, ended_at, error, exception_class, stacktrace, frames, delay_ms, worker)
  where exists (select from was)
), item as (
  update brokers_replay_item i set outcome = 'failed_again', finished_at = clock_timestamp(),
    why = case when was.failure_group_id = %(failure_group)s::bigint then 'same' else 'new' end
  from was where i.id = %(item)s::bigint and i.outcome = 'waiting' returning i.replay_id
), tries as (
  insert into brokers_dead_letter_attempt (dead_letter_id, number, revision, replay_id, started_at, ended_at, error,
    exception_class, stacktrace, frames, delay_ms, worker)
  select was.id, was.attempts + row_number() over (order by m.number), %(revision)s::int,
    (select replay_id from brokers_replay_item where id = %(item)s::bigint), m.started_at, m.ended_at, m.error,
    m.exception_class, m.stacktrace, m.frames, m.delay_ms, m.worker
  from was, moved m
), lane as (
  delete from brokers_redelivery where id = %(redelivery)s::bigint and exists (select from was)
)
update brokers_dead_letter d set state = 'open', reason = %(reason)s::text,
  failure_group_id = %(failure_group)s::bigint, exception_class = %(exception_class)s::text, error = %(error)s::text,
  idempotency_key = coalesce(%(idempotency_key)s::text, d.idempotency_key),
  envelope = coalesce(%(envelope)b::bytea, d.envelope),
  attempts = was.attempts + (select count(*) from moved),
  failed_at = clock_timestamp(), changed_at = clock_timestamp()
from was where d.id = was.id returning d.id

-- name: lock  some dead letters in order: their states
select id, state, revision, size, source_kind from brokers_dead_letter where id = any(%s::bigint[])
order by id for update

-- name: change  the state and note of some dead letters, of those that are given
update brokers_dead_letter set state = coalesce(%s::text, state), note = coalesce(%s::text, note),
  changed_at = clock_timestamp()
where id = any(%s::bigint[])

-- name: add_revision  an edit
insert into brokers_dead_letter_revision (dead_letter_id, number, key, value, encoding, headers, origin, created_by)
values (%s::bigint, %s::int, %b::bytea, %b::bytea, %s::smallint, %b::bytea, %s::text, %s::text)

-- name: revise  makes a revision the current one
update brokers_dead_letter set revision = %s::int, size = %s::int, changed_at = clock_timestamp() where id = %s::bigint

-- name: purge  removes settled dead letters that nobody has changed for so many days, a bounded number: how many
with old as (
  select id from brokers_dead_letter where state in ('replayed', 'resolved', 'discarded')
    and changed_at < clock_timestamp() - %s::int * interval '1 day'
  order by changed_at limit %s::int for update skip locked
), revisions as (
  delete from brokers_dead_letter_revision where dead_letter_id in (select id from old)
), tries as (
  delete from brokers_dead_letter_attempt where dead_letter_id in (select id from old)
), letters as (
  delete from brokers_dead_letter where id in (select id from old) returning 1
)
select count(*) from letters
