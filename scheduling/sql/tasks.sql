-- Scheduled tasks: what is due, and firing it. Executed by scheduling/tasks/store.py alone.

-- name: declare  inserts tasks or brings them up to date; a changed schedule begins anew, an unchanged one goes on
insert into scheduling_scheduledtask
       (name, source, periodic_task_id, kind, spec, options, overlap, misfire, is_declared, paused, note, next_due)
select x.name, %(source)s, x.periodic_task, x.kind, x.spec::jsonb, x.options::jsonb, x.overlap, x.misfire,
       x.is_declared, false, '', x.first_due
from unnest(%(names)s::text[], %(periodic_tasks)s::int[], %(kinds)s::text[], %(specs)s::text[], %(options)s::text[],
            %(overlaps)s::text[], %(misfires)s::text[], %(are_declared)s::bool[], %(first_dues)s::timestamptz[])
     as x (name, periodic_task, kind, spec, options, overlap, misfire, is_declared, first_due)
order by x.name
on conflict (name) do update set
    periodic_task_id = excluded.periodic_task_id,
    options = excluded.options,
    overlap = excluded.overlap,
    misfire = excluded.misfire,
    is_declared = excluded.is_declared,
    kind = excluded.kind,
    spec = excluded.spec,
    next_due = case
        when (scheduling_scheduledtask.kind, scheduling_scheduledtask.spec) is distinct from (excluded.kind, excluded.spec)
        then excluded.next_due
        when not scheduling_scheduledtask.is_declared and excluded.is_declared and excluded.kind <> 'once'
        then excluded.next_due
        else scheduling_scheduledtask.next_due
    end
where scheduling_scheduledtask.source = excluded.source
returning name

-- name: withdraw  those of a source whose declaration is gone: kept with their history, never due
update scheduling_scheduledtask set is_declared = false, periodic_task_id = null
where source = %s and is_declared and not name = any(%s)
returning name

-- name: due  what is due before an instant, soonest first
select id, name, kind, spec, misfire, next_due, options, periodic_task_id
from scheduling_scheduledtask
where next_due <= %s and not paused and is_declared
order by next_due, id
limit %s

-- name: fire  moves tasks on to their next due times and makes the runs, if the caller still leads and nobody was quicker
with leader as (
    select from shedlock
    where name = %(lock)s and locked_by = %(me)s and lock_until > timezone('utc', clock_timestamp())
),
moved as (
    update scheduling_scheduledtask t
    set next_due = x.later
    from unnest(%(tasks)s::bigint[], %(due)s::timestamptz[], %(later)s::timestamptz[], %(start)s::timestamptz[],
                %(missed)s::bool[]) as x (task, due, later, start, missed)
    where t.id = x.task and t.next_due = x.due and not t.paused and t.is_declared and exists (select from leader)
    returning t.id, t.name, t.overlap, x.due, x.start,
              case
                  when x.missed then 'no beat was running when it was due'
                  when t.overlap = 'skip' and exists (
                      select from scheduling_run r where r.task_id = t.id and r.state in ('ready', 'running')
                  ) then 'the run before had not ended'
              end as hindrance
)
insert into scheduling_run (task_id, due_at, trigger, function, state, is_exclusive, fired_by, next_at, ended_at, error,
                            attempts, losses, process, called_by)
select id, due, 'schedule', name, case when hindrance is null then 'ready' else 'skipped' end, overlap <> 'allow',
       %(me)s, start, case when hindrance is not null then clock_timestamp() end, coalesce(hindrance, ''), 0, 0, '', ''
from moved
on conflict (task_id, due_at) do nothing
returning id, task_id, state, next_at

-- name: shelve  what cannot be read as a schedule is not due any more, until it is declared again
update scheduling_scheduledtask set is_declared = false, note = %(why)s where id = %(id)s

-- name: revive  fixed delays that wait for the end of a run, where none is under way any more
update scheduling_scheduledtask t
set next_due = clock_timestamp() + make_interval(secs => (t.spec->>'delay_ms')::float8 / 1000)
where t.kind = 'fixed_delay' and t.next_due is null and t.is_declared
  and not exists (
      select from scheduling_run o where o.task_id = t.id and o.state in ('ready', 'running')
  )

-- name: clock  the database's time
select clock_timestamp()

-- name: page  tasks for people, with their last run and what runs now
select t.name, t.source, t.kind, t.spec, t.options, t.overlap, t.misfire, t.paused, t.note, t.next_due, t.is_declared,
       r.id, r.state, r.due_at, r.started_at, r.ended_at, right(r.error, %(error)s), r.process
from scheduling_scheduledtask t
left join lateral (
    select * from scheduling_run r where r.task_id = t.id order by r.id desc limit 1
) r on true
where t.name > %(after)s and (%(name)s::text is null or t.name = %(name)s)
order by t.name
limit %(limit)s

-- name: set_paused  pauses a task, or lets it go on from its next due time
update scheduling_scheduledtask
set paused = %(paused)s, note = %(note)s, next_due = %(next_due)s
where name = %(name)s
returning id

-- name: skip_next  moves a task past the due time that comes next, and keeps that as a run that was skipped
with moved as (
    update scheduling_scheduledtask set next_due = %(later)s::timestamptz
    where name = %(name)s and next_due = %(due)s::timestamptz and not paused and is_declared
    returning id, name, overlap
)
insert into scheduling_run (task_id, due_at, trigger, function, state, is_exclusive, fired_by, next_at, ended_at, error,
                            attempts, losses, process, called_by)
select id, %(due)s::timestamptz, 'schedule', name, 'skipped', overlap <> 'allow', '', %(due)s::timestamptz,
       clock_timestamp(), %(why)s, 0, 0, '', %(who)s
from moved
on conflict (task_id, due_at) do nothing
returning id

-- name: lock_task  for a change
select kind, spec, paused, note, next_due, clock_timestamp() from scheduling_scheduledtask where name = %s for update

-- name: history  runs of a task, latest first, without results and with the ends of errors alone
select r.id, r.state, r.trigger, r.due_at, r.started_at, r.ended_at, r.attempts, right(r.error, %(error)s), null::jsonb,
       r.process, r.called_by
from scheduling_run r
where r.task_id = (select id from scheduling_scheduledtask where name = %(name)s) and r.id < %(before)s
order by r.id desc
limit %(limit)s

-- name: run  one run of a task
select r.id, r.state, r.trigger, r.due_at, r.started_at, r.ended_at, r.attempts, r.error, r.result, r.process, r.called_by
from scheduling_run r
join scheduling_scheduledtask t on t.id = r.task_id
where t.name = %(name)s and r.id = %(run)s

-- name: operators_call  the Celery task of an operator's periodic task, and what it is called with
select options->>'task', coalesce(options->'args', '[]'), coalesce(options->'kwargs', '{}')
from scheduling_scheduledtask
where id = %s and source = 'operator'
