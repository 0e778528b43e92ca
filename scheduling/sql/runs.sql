-- Runs: claiming, keeping, ending, finding those that nobody does. Executed by scheduling/runs.py alone.
-- What searches an index by the time says statement_timestamp(): clock_timestamp() may change from row to row, and no
-- index is searched by it.

-- name: claim  begins an attempt at a run that is due; no row: somebody else has it, or its turn has not come
update scheduling_run r
set state = 'running', attempts = attempts + 1, token = %(token)s, process = %(process)s, rung_at = null,
    lease_until = clock_timestamp() + make_interval(secs => %(lease)s),
    started_at = coalesce(started_at, clock_timestamp()), began_at = clock_timestamp()
where id = %(id)s and state = 'ready' and next_at <= clock_timestamp()
  and not (is_exclusive and (
      exists (select from scheduling_run o where o.task_id = r.task_id and o.state = 'running' and o.is_exclusive)
      or exists (
          select from scheduling_run o
          where o.task_id = r.task_id and o.id < r.id and o.state = 'ready' and o.is_exclusive
            and o.next_at <= statement_timestamp()
      )
  ))
returning id, task_id, due_at, trigger, function, arguments, attempts, losses,
          (select source from scheduling_scheduledtask t where t.id = r.task_id),
          failures, same_failures, exception_class, dead_letter_id,
          extract(epoch from clock_timestamp() - next_at)::float8

-- name: extend  keeps the leases of a process; who is missing in the answer has lost its run
update scheduling_run
set lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
where token = any(%(tokens)s::uuid[]) and state = 'running' and lease_until > clock_timestamp()
  and id = any(%(ids)s::bigint[])
returning token

-- name: finish  ends a run, if this attempt still has it; a fixed delay begins to count
with ended as (
    update scheduling_run
    set state = %(state)s, result = %(result)s::jsonb, error = %(error)s, ended_at = clock_timestamp(), token = null,
        lease_until = null
    where id = %(id)s and token = %(token)s and state = 'running'
    returning id, task_id
),
again as (
    update scheduling_scheduledtask t
    set next_due = clock_timestamp() + make_interval(secs => (t.spec->>'delay_ms')::float8 / 1000)
    from ended
    where t.id = ended.task_id and t.kind = 'fixed_delay' and t.next_due is null
      and not exists (
          select from scheduling_run o
          where o.task_id = t.id and o.state in ('ready', 'running') and o.id <> ended.id
      )
)
select id from ended

-- name: retry  gives an attempt of background work back, to be tried again later, and keeps how it failed
with again as (
    update scheduling_run
    set state = 'ready', error = %(error)s::text,
        next_at = clock_timestamp() + make_interval(secs => %(delay_ms)s::bigint / 1000.0), token = null,
        lease_until = null, failures = failures + 1, exception_class = %(class)s::text,
        same_failures = case when exception_class = %(class)s::text then same_failures + 1 else 1 end
    where id = %(id)s::bigint and token = %(token)s::uuid and state = 'running'
    returning id, attempts, began_at, process
),
kept as (
    delete from scheduling_runattempt a using again
    where a.run_id = again.id and a.number <= again.attempts - %(kept)s::int
)
insert into scheduling_runattempt (run_id, number, started_at, ended_at, error, exception_class, stacktrace, frames,
                                   delay_ms, worker)
select id, attempts, began_at, clock_timestamp(), %(message)s::text, %(class)s::text, %(stacktrace)s::text,
       %(frames)s::jsonb, %(delay_ms)s::bigint, process
from again
returning run_id

-- name: lose  ends runs of tasks whose worker is gone
with lapsed as (
    select id from scheduling_run
    where state = 'running' and lease_until < statement_timestamp() and task_id is not null
    order by lease_until
    limit %(limit)s
    for update skip locked
),
lost as (
    update scheduling_run r
    set state = 'lost', losses = losses + 1, ended_at = clock_timestamp(), token = null, lease_until = null,
        error = 'its worker was gone'
    from lapsed
    where r.id = lapsed.id
    returning r.id
)
select id from lost

-- name: take_back  makes background work whose worker is gone ready again: at once, and after a second loss later
with lapsed as (
    select id from scheduling_run
    where state = 'running' and lease_until < statement_timestamp() and task_id is null and losses < %(most)s::int - 1
    order by lease_until
    limit %(limit)s::int
    for update skip locked
),
again as (
    update scheduling_run r
    set state = 'ready', losses = losses + 1, token = null, lease_until = null, rung_at = null,
        next_at = clock_timestamp() + make_interval(secs => r.losses * %(pause)s::float8), error = 'its worker was gone'
    from lapsed
    where r.id = lapsed.id
    returning r.id, r.attempts, r.began_at, r.process, r.next_at
),
kept as (
    delete from scheduling_runattempt a using again
    where a.run_id = again.id and a.number <= again.attempts - %(kept)s::int
)
insert into scheduling_runattempt (run_id, number, started_at, ended_at, error, exception_class, stacktrace, frames,
                                   delay_ms, worker)
select id, attempts, began_at, null, 'its worker was gone', '', '', '[]'::jsonb,
       greatest(0, extract(epoch from next_at - clock_timestamp()) * 1000)::bigint, process
from again
returning run_id

-- name: poison  background work whose worker is gone once too often
select id, token from scheduling_run
where state = 'running' and lease_until < statement_timestamp() and task_id is null and losses >= %(most)s::int - 1
order by lease_until
limit %(limit)s::int

-- name: unrung  what is due, has its turn, and no worker was told of, or long ago
select id
from (
    select id, task_id, is_exclusive, next_at
    from scheduling_run
    where state = 'ready' and rung_at is null and next_at <= statement_timestamp()
    union all
    select id, task_id, is_exclusive, next_at
    from scheduling_run
    where state = 'ready' and rung_at < statement_timestamp() - make_interval(secs => %(patience)s)
      and next_at <= statement_timestamp()
) r
where not (is_exclusive and (
    exists (select from scheduling_run o where o.task_id = r.task_id and o.state = 'running' and o.is_exclusive)
    or exists (
        select from scheduling_run o
        where o.task_id = r.task_id and o.id < r.id and o.state = 'ready' and o.is_exclusive
          and o.next_at <= statement_timestamp()
    )
))
order by next_at
limit %(limit)s

-- name: rung  notes that workers were told
update scheduling_run set rung_at = clock_timestamp() where id = any(%s::bigint[]) and state = 'ready'

-- name: next_of_task  the oldest run of a task that waits for its turn
select id from scheduling_run
where task_id = %s and state = 'ready' and is_exclusive and next_at <= clock_timestamp()
order by id
limit 1

-- name: run_now  a run that an operator asks for
insert into scheduling_run (task_id, due_at, trigger, function, state, is_exclusive, fired_by, next_at, attempts, losses,
                            process, error, called_by)
select id, clock_timestamp(), 'operator', name, 'ready', overlap <> 'allow', '', clock_timestamp(), 0, 0, '', '',
       %(who)s
from scheduling_scheduledtask
where name = %(name)s and is_declared
returning id

-- name: purge  forgets ended runs, a bounded number at once
with old as (
    select id from scheduling_run
    where ended_at < statement_timestamp() - make_interval(days => %(days)s)
    order by ended_at
    limit %(limit)s
),
tries as (
    delete from scheduling_runattempt where run_id = any(array(select id from old))
)
delete from scheduling_run where id = any(array(select id from old))
