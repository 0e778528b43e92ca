-- name: create  a task that begins, or begins anew when the same user's did not complete
insert into realtime_progress (id, user_name, title, current, total)
values (%(id)s::text, %(user)s::text, %(title)s::text, %(current)s::bigint, %(total)s::bigint)
on conflict (id) do update
set number = realtime_progress.number + 1, state = 'running', title = excluded.title, current = excluded.current,
  total = excluded.total, message = '', error = null, started_at = clock_timestamp(), updated_at = clock_timestamp()
where realtime_progress.user_name = excluded.user_name and realtime_progress.state <> 'completed'
returning number

-- name: update  how far a running task has come
update realtime_progress
set number = number + 1, current = %(current)s::bigint, total = %(total)s::bigint, message = %(message)s::text,
  updated_at = clock_timestamp()
where id = %(id)s::text and state = 'running'
returning number

-- name: finish  the end of a running task
update realtime_progress
set number = number + 1, state = %(state)s::text, current = %(current)s::bigint, total = %(total)s::bigint,
  message = %(message)s::text, result = %(result)s::text, error = %(error)s::text, updated_at = clock_timestamp()
where id = %(id)s::text and state = 'running'
returning number

-- name: take_up  has a task that failed run again
update realtime_progress
set number = number + 1, state = 'running', error = null, updated_at = clock_timestamp()
where id = %s::text and state = 'failed'
returning number

-- name: find  one task
select user_name, title, state, number, current, total, message, result, error, started_at, updated_at
from realtime_progress where id = %s::text

-- name: numbers  the number of each of these tasks
select id, number from realtime_progress where id = any(%s::text[])
