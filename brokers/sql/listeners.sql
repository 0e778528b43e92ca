-- name: settle  last in a listener's transaction: commits an offset under a claim: the group's generation, and if paused
select generation, paused
from brokers_group_settle(%s::bigint, %s::bigint, %s::int, %s::bigint, %s::bigint, %s::boolean, %s::boolean)

-- name: tidy  what a handler may have left behind in its session
select pg_advisory_unlock_all(), set_config('search_path', %s::text, false)

-- name: introduce  names a member's session, and bounds how long it may hold a transaction without a word
select set_config('application_name', %s::text, false),
  set_config('idle_in_transaction_session_timeout', %s::text, false), current_setting('search_path')

-- name: careful  which of these partitions are to be read with care
select partition_id from brokers_group_assignment
where group_id = %s::bigint and partition_id = any(%s::int[]) and careful

-- name: take_slot  whether this session has that slot now
select pg_try_advisory_lock(%s::int, %s::int)

-- name: beat  renews sessions, with how long each has made no progress: which of them are over
with given as (
  select * from unnest(%s::bigint[], %s::bigint[]) as x (id, idle_ms)
), mine as (
  select m.id from brokers_group_member m join given x on x.id = m.id
  where m.ended_at is null order by m.id for no key update of m skip locked
), renewed as (
  update brokers_group_member m set heartbeat_at = clock_timestamp(),
    polled_at = greatest(m.polled_at, clock_timestamp() - x.idle_ms * interval '1 millisecond')
  from given x join mine l on l.id = x.id where m.id = x.id
)
select m.id from brokers_group_member m join given x on x.id = m.id where m.ended_at is not null
