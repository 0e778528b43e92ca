-- Calls of durable background functions as the console lists them. Executed by scheduling/call_board.py alone.

-- name: all  the latest calls
select id, function, state, due_at, next_at, started_at, ended_at, attempts, losses, left(error, 4000), process,
       called_by, dead_letter_id
from scheduling_run
where task_id is null and id < %(before)s
order by id desc
limit %(limit)s

-- name: open  those that have not ended
select id, function, state, due_at, next_at, started_at, ended_at, attempts, losses, left(error, 4000), process,
       called_by, dead_letter_id
from scheduling_run
where task_id is null and state in ('ready', 'running') and id < %(before)s
order by id desc
limit %(limit)s

-- name: dead  those that were given up
select id, function, state, due_at, next_at, started_at, ended_at, attempts, losses, left(error, 4000), process,
       called_by, dead_letter_id
from scheduling_run
where task_id is null and state = 'dead' and id < %(before)s
order by id desc
limit %(limit)s

-- name: open_count  how many have not ended, up to a bound, and of those how many run
select count(*), count(*) filter (where state = 'running')
from (
    select state from scheduling_run where task_id is null and state in ('ready', 'running') limit %s
) r
