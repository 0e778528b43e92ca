-- name: acquire  ShedLock's INSERT with the database's time; no row: it is held
insert into shedlock (name, lock_until, locked_at, locked_by)
values (%(name)s::text, timezone('utc', current_timestamp) + make_interval(secs => %(at_most)s::float8),
        timezone('utc', current_timestamp), %(locked_by)s::text)
on conflict (name) do update
set lock_until = timezone('utc', current_timestamp) + make_interval(secs => %(at_most)s::float8),
    locked_at = timezone('utc', current_timestamp), locked_by = %(locked_by)s::text
where shedlock.name = %(name)s::text and shedlock.lock_until <= timezone('utc', current_timestamp)
returning locked_at, lock_until

-- name: held  whether an acquisition whose answer was lost was made
select locked_at, lock_until from shedlock
where name = %(name)s::text and locked_by = %(locked_by)s::text
  and lock_until > timezone('utc', current_timestamp)

-- name: extend  ShedLock's EXTEND; no row: the lock has lapsed, whoever has it now
update shedlock
set lock_until = timezone('utc', current_timestamp) + make_interval(secs => %(at_most)s::float8)
where name = %(name)s::text and locked_by = %(locked_by)s::text
  and lock_until > timezone('utc', current_timestamp)
returning locked_at, lock_until

-- name: unlock  ShedLock's UNLOCK; no row: it is somebody else's by now
update shedlock
set lock_until = case
    when locked_at + make_interval(secs => %(at_least)s::float8) > timezone('utc', current_timestamp)
    then locked_at + make_interval(secs => %(at_least)s::float8)
    else timezone('utc', current_timestamp)
end
where name = %(name)s::text and locked_by = %(locked_by)s::text
returning locked_at, lock_until

-- name: fence  for the end of a transaction: nobody can take the lock before it commits; no row: it is lost
select 1 from shedlock
where name = %s::text and locked_by = %s::text and lock_until > timezone('utc', clock_timestamp())
for share

-- name: not_idle_for_long  a process that is stopped in its transaction must not keep the lock's row from others
set local idle_in_transaction_session_timeout = '5s'

-- name: not_waiting_for_long
set local lock_timeout = '2s'

-- name: look  for a release by force
select locked_by, locked_at, lock_until, lock_until > timezone('utc', clock_timestamp()) from shedlock
where name = %s::text
for update

-- name: release  whoever held it can neither extend nor unlock it any more
update shedlock set lock_until = timezone('utc', clock_timestamp()), locked_by = %s::text where name = %s::text
