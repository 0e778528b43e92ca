-- Calls of background functions: made, given up, looked at. Executed by scheduling/durable/store.py alone.

-- name: submit  background work, in the caller's transaction, which rings for it after the commit
insert into scheduling_run (task_id, due_at, trigger, function, arguments, state, is_exclusive, fired_by, next_at,
                            rung_at, attempts, losses, process, error, called_by)
values (null, clock_timestamp(), 'call', %(function)s::text, %(arguments)s::jsonb, 'ready', false, '',
        clock_timestamp(), clock_timestamp(), 0, 0, '', '', %(who)s::text)
returning id

-- name: submit_again  calls that were given up, as a replay gives them back, in its order
insert into scheduling_run (task_id, due_at, trigger, function, arguments, state, is_exclusive, fired_by, next_at,
                            rung_at, attempts, losses, process, error, called_by, dead_letter_id, replay_item_id,
                            revision)
select null, clock_timestamp(), 'replay', g.function, g.arguments::jsonb, 'ready', false, '', clock_timestamp(),
       clock_timestamp(), 0, 0, '', '', g.who, g.letter, g.item, g.revision
from unnest(%(functions)s::text[], %(arguments)s::text[], %(who)s::text[], %(letters)s::bigint[], %(items)s::bigint[],
            %(revisions)s::int[]) with ordinality as g (function, arguments, who, letter, item, revision, place)
order by g.place
returning id

-- name: lock_attempt  the run of an attempt that still has it, until the end of the caller's transaction
select id, function, arguments::text, attempts, losses, began_at, started_at, process, dead_letter_id, replay_item_id,
       revision, clock_timestamp()
from scheduling_run
where id = %(id)s::bigint and token = %(token)s::uuid and state = 'running'
  and (not %(lapsed)s::bool or lease_until < clock_timestamp())
for update

-- name: take_attempts  the attempts that were kept of a run, oldest first; they go to its dead letter
with taken as (
    delete from scheduling_runattempt where run_id = %s::bigint
    returning number, started_at, ended_at, error, exception_class, stacktrace, frames::text, delay_ms, worker
)
select * from taken order by number

-- name: give_up  ends a run that the caller has locked as a dead letter
update scheduling_run
set state = 'dead', dead_letter_id = %(letter)s::bigint, error = %(error)s::text, exception_class = %(class)s::text,
    failures = failures + %(failures)s::int, losses = losses + %(losses)s::int, ended_at = clock_timestamp(),
    token = null, lease_until = null
where id = %(id)s::bigint

-- name: succeed  ends a run that the caller has locked
update scheduling_run
set state = 'succeeded', result = %(result)s::jsonb, error = %(error)s::text, ended_at = clock_timestamp(),
    token = null, lease_until = null
where id = %(id)s::bigint

-- name: calls  background work for people, latest first
select id, function, state, due_at, next_at, started_at, ended_at, attempts, losses, error, result::text, process,
       called_by, dead_letter_id, arguments::text
from scheduling_run
where task_id is null and id < %(before)s::bigint
  and (%(function)s::text is null or function = %(function)s::text)
  and (%(state)s::text is null or state = %(state)s::text)
order by id desc
limit %(limit)s::int

-- name: call  one call of a background function
select id, function, state, due_at, next_at, started_at, ended_at, attempts, losses, error, result::text, process,
       called_by, dead_letter_id, arguments::text
from scheduling_run
where id = %s::bigint and task_id is null
