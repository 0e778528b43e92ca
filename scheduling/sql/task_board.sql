-- Scheduled tasks and their runs as the console shows them. Executed by scheduling/tasks/board.py alone.
-- Runs are in the order of their due times, which one index alone has: in the order of ids the planner may walk through
-- everybody's runs to find those of a task.

-- name: listed  tasks by name with what tells how they stand; of each only its latest runs are looked at
select t.id, t.name, t.source, t.periodic_task_id is not null, t.paused, t.is_declared, t.next_due, t.kind,
       exists (select from scheduling_run r where r.task_id = t.id and r.state = 'running'),
       (select r.state
        from (
            select due_at, state, ended_at from scheduling_run where task_id = t.id order by due_at desc limit %(latest)s
        ) r
        where r.ended_at is not null and r.state <> 'skipped'
        order by r.due_at desc
        limit 1)
from scheduling_scheduledtask t
where t.name > %(after)s and (%(text)s::text = '' or strpos(lower(t.name), lower(%(text)s::text)) > 0)
order by t.name
limit %(limit)s

-- name: cards  some tasks with the last run that ended, what is open, and how the latest runs went
select t.id, t.periodic_task_id, t.name, t.source, t.kind, t.spec, t.options, t.overlap, t.misfire, t.paused, t.note,
       t.next_due, t.is_declared,
       last.id, last.state, last.due_at, last.started_at, last.ended_at, last.error, last.process,
       open.running, open.waiting, recent.skipped, recent.failed, recent.seen, recent.took, t.created_at
from scheduling_scheduledtask t
left join lateral (
    select r.id, r.state, r.due_at, r.started_at, r.ended_at, left(r.error, 2000) as error, r.process
    from (select * from scheduling_run where task_id = t.id order by due_at desc limit %(latest)s) r
    where r.ended_at is not null
    order by r.due_at desc
    limit 1
) last on true
cross join lateral (
    select count(*) filter (where r.state = 'running') as running, count(*) filter (where r.state = 'ready') as waiting
    from (
        select state from scheduling_run where task_id = t.id and state in ('ready', 'running') limit %(most_open)s
    ) r
) open
cross join lateral (
    select count(*) filter (where r.state = 'skipped') as skipped,
           count(*) filter (where r.state in ('failed', 'timed_out', 'lost', 'dead')) as failed,
           count(*) as seen,
           array_agg(round(1000 * extract(epoch from r.ended_at - r.started_at))::bigint order by r.due_at)
               filter (where r.started_at is not null and r.ended_at is not null and r.state <> 'skipped') as took
    from (
        select due_at, state, started_at, ended_at from scheduling_run
        where task_id = t.id
        order by due_at desc
        limit %(latest)s
    ) r
) recent
where t.id = any(%(ids)s::bigint[])
order by t.name

-- name: find  the id of a task
select id from scheduling_scheduledtask where name = %s

-- name: runs  runs of a task, latest first, among the next so many; with the beginnings of texts that may be long
select r.id, r.state, r.trigger, r.due_at, r.next_at, r.started_at, r.ended_at, r.attempts, r.losses,
       left(r.error, 4000), left(r.result::text, 300), r.process, r.called_by
from (
    select * from scheduling_run
    where task_id = %(task)s and due_at < %(before)s
    order by due_at desc
    limit %(window)s
) r
where %(states)s::text[] is null or r.state = any(%(states)s::text[])
order by r.due_at desc
limit %(limit)s

-- name: window_end  the last run that such a look reaches; no row: it reaches the first of all
select due_at from scheduling_run
where task_id = %(task)s and due_at < %(before)s
order by due_at desc
offset %(window)s - 1
limit 1

-- name: run  one run of a task, whole
select r.id, r.state, r.trigger, r.due_at, r.next_at, r.started_at, r.ended_at, r.attempts, r.losses, r.error,
       r.result::text, r.process, r.called_by, r.fired_by, r.lease_until, r.rung_at
from scheduling_run r
where r.task_id = %(task)s and r.id = %(run)s

-- name: of_locks  the tasks whose runs take these locks, a bounded number
select options->'lock'->>'name', name, (options->'lock'->>'at_most_for_ms')::bigint,
       (options->'lock'->>'at_least_for_ms')::bigint
from scheduling_scheduledtask
where options->'lock'->>'name' = any(%(locks)s::text[]) and is_declared
order by name
limit %(limit)s

-- name: at_work  which of these processes are at a run and renew its lease
select distinct process from scheduling_run
where state = 'running' and lease_until > clock_timestamp() and process = any(%s::text[])
