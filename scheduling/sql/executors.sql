-- Executors: what each process reports of its own. Executed by scheduling/executors/reports.py alone.

-- name: write  a process's report, or its renewal
insert into scheduling_executorreport (id, host, pid, kind, at, executors)
values (%(id)s, %(host)s, %(pid)s, %(kind)s, clock_timestamp(), %(executors)s::jsonb)
on conflict (id) do update set at = clock_timestamp(), executors = excluded.executors

-- name: remove  a process ends in good order
delete from scheduling_executorreport where id = %s

-- name: purge  processes that ended without that
delete from scheduling_executorreport where at < clock_timestamp() - make_interval(secs => %s)

-- name: live  what processes have reported lately
select host, pid, kind, at, executors
from scheduling_executorreport
where at > clock_timestamp() - make_interval(secs => %s)
order by kind, host, pid, at
