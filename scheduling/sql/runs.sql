-- Runs: claiming, keeping, ending, finding those that nobody does. Executed by scheduling/runs.py alone.

-- name: claim  begins an attempt at a run that is due; no row: somebody else has it, or its turn has not come
update scheduling_run r
set state = 'running', attempts = attempts + 1, token = %(token)s, process = %(process)s, rung_at = null,
    lease_until = clock_timestamp() + make_interval(secs => %(lease)s),
    started_at = coalesce(started_at, clock_timestamp())
where id = %(id)s and state = 'ready' and next_at <= clock_timestamp()
  and not (is_exclusive and exists (
      select from scheduling_run o
      where o.task_id = r.task_id and o.state in ('ready', 'running') and o.is_exclusive
        and (o.state = 'running' or o.id < r.id and o.next_at <= clock_timestamp())
  ))
returning id, task_id, due_at, trigger, function, arguments, attempts, losses,
          (select source from scheduling_scheduledtask t where t.id = r.task_id)

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

-- name: retry  gives an attempt back, to be tried again later
update scheduling_run
set state = 'ready', error = %(error)s, next_at = clock_timestamp() + make_interval(secs => %(delay)s), token = null,
    lease_until = null
where id = %(id)s and token = %(token)s and state = 'running'
returning id

-- name: lose  ends runs of tasks whose worker is gone
with lapsed as (
    select id from scheduling_run
    where state = 'running' and lease_until < clock_timestamp() and task_id is not null
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

-- name: take_back  makes background work whose worker is gone ready again
with lapsed as (
    select id from scheduling_run
    where state = 'running' and lease_until < clock_timestamp() and task_id is null
    order by lease_until
    limit %(limit)s
    for update skip locked
)
update scheduling_run r
set state = 'ready', losses = losses + 1, token = null, lease_until = null, next_at = clock_timestamp(),
    error = 'its worker was gone'
from lapsed
where r.id = lapsed.id
returning r.id, r.losses

-- name: unrung  what is due, has its turn, and no worker was told of, or long ago
select id from scheduling_run r
where state = 'ready' and next_at <= clock_timestamp()
  and (rung_at is null or rung_at < clock_timestamp() - make_interval(secs => %(patience)s))
  and not (is_exclusive and exists (
      select from scheduling_run o
      where o.task_id = r.task_id and o.state in ('ready', 'running') and o.is_exclusive
        and (o.state = 'running' or o.id < r.id and o.next_at <= clock_timestamp())
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

-- name: submit  background work, in the caller's transaction
insert into scheduling_run (task_id, due_at, trigger, function, arguments, state, is_exclusive, fired_by, next_at,
                            attempts, losses, process, error, called_by)
values (null, clock_timestamp(), 'call', %(function)s, %(arguments)s::jsonb, 'ready', false, '', clock_timestamp(), 0, 0,
        '', '', %(who)s)
returning id

-- name: purge  forgets ended runs, a bounded number at once
delete from scheduling_run
where id in (
    select id from scheduling_run
    where ended_at < clock_timestamp() - make_interval(days => %(days)s) and state <> 'dead'
    order by ended_at
    limit %(limit)s
)
