-- name: beat  says that a process lives
insert into brokers_process (id, kind, host, pid, beat_at)
values (%s::uuid, %s::text, %s::text, %s::int, clock_timestamp())
on conflict (id) do update set beat_at = clock_timestamp()

-- name: end  removes a process that stops
delete from brokers_process where id = %s::uuid

-- name: live  processes of a kind heard of lately
select count(*) from brokers_process
where kind = %s::text and beat_at > clock_timestamp() - %s::float8 * interval '1 second'

-- name: listed  all processes that were heard of lately, and seconds since then
select kind, host, pid, started_at, extract(epoch from clock_timestamp() - beat_at)::float8
from brokers_process
order by kind, host, pid, id
limit %s::int

-- name: purge  removes processes not heard of for long
delete from brokers_process where beat_at < clock_timestamp() - %s::float8 * interval '1 second'
