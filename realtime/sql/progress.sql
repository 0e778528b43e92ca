-- name: create  a task that begins
insert into realtime_progress (id, user_name, title, current, total)
values (%(id)s::text, %(user)s::text, %(title)s::text, %(current)s::bigint, %(total)s::bigint)
on conflict (id) do nothing
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

-- name: find  one task
select user_name, title, state, number, current, total, message, result, error, started_at, updated_at
from realtime_progress where id = %s::text

-- name: numbers  the number of each of these tasks
select id, number from realtime_progress where id = any(%s::text[])

-- name: purge  forgets a few tasks that nothing was heard of for a long time
delete from realtime_progress where id in (
  select id from realtime_progress where updated_at < now() - make_interval(secs => %(seconds)s::double precision)
  order by updated_at limit %(limit)s::integer for update skip locked
)
