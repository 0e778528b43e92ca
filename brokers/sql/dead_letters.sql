-- name: group  the failure group of a fingerprint
select id from brokers_failure_group where fingerprint = %s::text

-- name: add_group  a new failure group, unless another was quicker
insert into brokers_failure_group
  (fingerprint, version, source_kind, source, group_name, handler, exception_class, frame, message, reason)
values (%s::text, %s::smallint, %s::text, %s::text, %s::text, %s::text, %s::text, %s::text, %s::text, %s::text)
on conflict (fingerprint) do nothing returning id

-- name: add  a dead letter with its first revision and the attempts of its delivery: its id
with moved as (
  delete from brokers_delivery_attempt where group_id = %(group_id)s::bigint
    and partition_id = %(partition_id)s::int and record_offset = %(offset)s::bigint
    and redelivery_id = %(redelivery)s::bigint
  returning *
), lane as (
  delete from brokers_redelivery where id = %(redelivery)s::bigint
), letter as (
  insert into brokers_dead_letter (reason, failure_group_id, source_kind, source, group_name, partition_id, partition,
    record_offset, record_timestamp, exchange, routing_key, message_id, correlation_id, idempotency_key,
    exception_class, error, size, attempts, first_failed_at, failed_at, changed_at)
  select %(reason)s::text, %(failure_group)s::bigint, %(source_kind)s::text, %(source)s::text, %(group)s::text,
    %(partition_id)s::int, %(partition)s::int, %(offset)s::bigint, %(timestamp)s::bigint, %(exchange)s::text,
    %(routing_key)s::text, %(message_id)s::text, %(correlation_id)s::text, %(idempotency_key)s::text,
    %(exception_class)s::text, %(error)s::text, %(size)s::int, (select count(*) from moved),
    least(now.at, %(first_failed_at)s::timestamptz, (select min(coalesce(ended_at, started_at)) from moved)),
    now.at, now.at
  from (select clock_timestamp() as at offset 0) now
  returning id
), tries as (
  insert into brokers_dead_letter_attempt (dead_letter_id, number, started_at, ended_at, error, exception_class,
    stacktrace, frames, delay_ms, worker)
  select letter.id, row_number() over (order by m.number), m.started_at, m.ended_at, m.error, m.exception_class,
    m.stacktrace, m.frames, m.delay_ms, m.worker
  from letter, moved m
), first as (
  insert into brokers_dead_letter_revision (dead_letter_id, number, key, value, encoding, headers)
  select id, 1, %(key)b::bytea, %(value)b::bytea, %(encoding)s::smallint, %(headers)b::bytea from letter
)
select id from letter

-- name: reopen  a dead letter whose redelivery failed again: its id, unless it is gone; the replay's item is settled
with was as (
  select id, failure_group_id, attempts from brokers_dead_letter where id = %(letter)s::bigint for update
), moved as (
  delete from brokers_delivery_attempt where group_id = %(group_id)s::bigint
    and partition_id = %(partition_id)s::int and record_offset = %(offset)s::bigint
    and redelivery_id = %(redelivery)s::bigint and exists (select from was)
  returning *
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
  attempts = was.attempts + (select count(*) from moved),
  failed_at = clock_timestamp(), changed_at = clock_timestamp()
from was where d.id = was.id returning d.id

-- name: lock  some dead letters in order: their states
select id, state, revision, size from brokers_dead_letter where id = any(%s::bigint[]) order by id for update

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
