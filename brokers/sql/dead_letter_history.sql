-- name: attempts  attempts at a dead letter, newest first
select number, revision, replay_id, started_at, ended_at, exception_class, error, delay_ms, worker, stacktrace, frames
from brokers_dead_letter_attempt where dead_letter_id = %s::bigint order by number desc limit %s::int

-- name: revisions  revisions of a dead letter, newest first; those beyond so many bytes together without their bodies
select number, origin, created_by, created_at, size, fits,
  case when fits then key end, case when fits then value end, encoding, case when fits then headers end
from (
  select *, number = max(number) over () or sum(size) over (order by number desc) <= %(bytes)s::bigint as fits from (
    select *, coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0) + octet_length(headers) as size
    from brokers_dead_letter_revision where dead_letter_id = %(id)s::bigint order by number desc limit %(limit)s::int
  ) sized
) summed order by number desc

-- name: edits  what was given up, and who edited it
select created_at, case origin when 'original' then 'given_up' else 'edit' end, created_by,
  jsonb_build_object('revision', number, 'origin', origin)
from brokers_dead_letter_revision where dead_letter_id = %s::bigint order by number desc limit %s::int

-- name: replays  replays that had it, with who made them and what became of it
select coalesce(i.finished_at, i.sent_at, p.created_at), 'replay', p.created_by,
  jsonb_build_object('id', i.replay_id, 'outcome', i.outcome, 'why', i.why, 'revision', i.revision)
from brokers_replay_item i join brokers_replay p on p.id = i.replay_id
where i.dead_letter_id = %s::bigint and p.state <> 'planned' order by i.id desc limit %s::int

-- name: changes  what people changed of it, but for edits
select at, operation, principal, details from brokers_audit_entry
where resource_type = 'dead_letter' and resource = %s::text and operation <> 'edit' order by id desc limit %s::int
