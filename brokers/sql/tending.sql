-- name: clock  the time now
select clock_timestamp()

-- name: with_work  queues that hold something due, something lapsed or something expired, each of times in a span
select q.id, due.found is not null, lapsed.found is not null, expired.found is not null
from brokers_queue q
left join lateral (
  select 1 as found from brokers_message m
  where m.queue_id = q.id and m.due_at > %(due)s::timestamptz and m.due_at <= %(now)s::timestamptz
  order by m.due_at limit 1) due on true
left join lateral (
  select 1 as found from brokers_message m
  where m.queue_id = q.id and m.lease_until > %(lapsed)s::timestamptz and m.lease_until <= %(now)s::timestamptz
  order by m.lease_until limit 1) lapsed on true
left join lateral (
  select 1 as found from brokers_message m
  where m.queue_id = q.id and m.lease_until is null and m.expires_at > %(expired)s::timestamptz
    and m.expires_at <= %(now)s::timestamptz
  order by m.expires_at limit 1) expired on true
where due.found is not null or lapsed.found is not null or expired.found is not null
order by q.id

-- name: promote  makes some delayed messages of a queue ready whose time has come, the longest due first
update brokers_message m set due_at = null where m.ctid = any(array(
  select x.ctid from brokers_message x
  where x.queue_id = %s::int and x.due_at > %s::timestamptz and x.due_at <= statement_timestamp()
  order by x.due_at limit %s::int for update skip locked))

-- name: return_lapsed  makes some messages ready whose lease has run out, but for those that failed too often
update brokers_message m set lease_until = null where m.ctid = any(array(
  select x.ctid from brokers_message x
  where x.queue_id = %(queue)s::int and x.lease_until > %(since)s::timestamptz and x.lease_until <= statement_timestamp()
    and (%(most)s::int < 0 or x.deliveries - x.returns <= %(most)s::int)
  order by x.lease_until limit %(limit)s::int for update skip locked))

-- name: failed_too_often  some messages whose lease has run out once too often, locked
select m.id, m.queue_id, m.pos, m.priority, m.token, m.lease_until, m.due_at, m.expires_at, m.published_at, m.holder,
  m.deliveries, m.returns, m.attempts, m.revision, m.dead_letter_id, m.replay_item_id, m.encoding, m.envelope, m.body
from brokers_message m
where m.ctid = any(array(
    select f.place from (
      select c.place, sum(octet_length(c.body)) over (order by c.lease_until rows unbounded preceding) - octet_length(c.body) as before
      from (
        select x.ctid as place, x.lease_until, x.body from brokers_message x
        where x.queue_id = %(queue)s::int and x.lease_until > %(since)s::timestamptz
          and x.lease_until <= statement_timestamp() and x.deliveries - x.returns > %(most)s::int
        order by x.lease_until limit %(limit)s::int) c) f
    where f.before < %(bytes)s::bigint))
  and coalesce(m.lease_until, 'infinity') <= statement_timestamp() and m.deliveries - m.returns > %(most)s::int
for update skip locked

-- name: expired  some messages that have expired, locked, the longest first
select m.id, m.queue_id, m.pos, m.priority, m.token, m.lease_until, m.due_at, m.expires_at, m.published_at, m.holder,
  m.deliveries, m.returns, m.attempts, m.revision, m.dead_letter_id, m.replay_item_id, m.encoding, m.envelope, m.body
from brokers_message m
where m.ctid = any(array(
    select f.place from (
      select c.place, sum(octet_length(c.body)) over (order by c.expires_at rows unbounded preceding) - octet_length(c.body) as before
      from (
        select x.ctid as place, x.expires_at, x.body from brokers_message x
        where x.queue_id = %(queue)s::int and x.lease_until is null and x.expires_at > %(since)s::timestamptz
          and x.expires_at <= statement_timestamp()
        order by x.expires_at limit %(limit)s::int) c) f
    where f.before < %(bytes)s::bigint))
  and coalesce(m.lease_until, '-infinity') = '-infinity'
  and coalesce(m.expires_at, 'infinity') <= statement_timestamp()
for update skip locked

-- name: one_at_a_time  waits until nobody else cuts a queue to its length; until the transaction's end
select pg_advisory_xact_lock(%s::int, %s::int)

-- name: too_many  by how many messages a queue is longer than it should be
select brokers_queue_ready(%s::int) - %s::bigint

-- name: too_long  those of some queues that are longer than they should be
select q.id from unnest(%s::int[], %s::bigint[]) as q (id, most) where brokers_queue_ready(q.id) > q.most order by q.id

-- name: head  the first messages of a queue, locked: of the highest priority, and of those the oldest
select m.id, m.queue_id, m.pos, m.priority, m.token, m.lease_until, m.due_at, m.expires_at, m.published_at, m.holder,
  m.deliveries, m.returns, m.attempts, m.revision, m.dead_letter_id, m.replay_item_id, m.encoding, m.envelope, m.body
from brokers_message m
where m.ctid = any(array(
    select f.place from (
      select c.place, sum(octet_length(c.body)) over (order by c.level, c.pos rows unbounded preceding) - octet_length(c.body) as before
      from (
        select l.level, r.* from generate_series(0, %(levels)s::int) as l (level), lateral (
          select x.ctid as place, x.pos, x.body from brokers_message x
          where x.queue_id = %(queue)s::int and x.priority = %(levels)s::int - l.level
            and x.lease_until is null and x.due_at is null
          order by x.pos limit %(limit)s::int) r
        limit %(limit)s::int) c) f
    where f.before < %(bytes)s::bigint))
  and coalesce(m.lease_until, m.due_at) is null
for update skip locked

-- name: unused  those of some queues that nobody has used for so long
select q.id from unnest(%s::int[], %s::bigint[]) as u (id, ms) join brokers_queue q on q.id = u.id
where q.used_at < statement_timestamp() - u.ms * interval '1 millisecond'
  and not exists (select from brokers_queue_consumer c
    where c.queue_id = q.id and c.lapses_at > statement_timestamp() - u.ms * interval '1 millisecond')
  and not exists (select from brokers_message m where m.queue_id = q.id and m.lease_until > statement_timestamp())

-- name: lock_queue  holds a queue's row
select from brokers_queue q where q.id = %s::int for update

-- name: gone  queues that are no more and have left something
select c.queue_id from brokers_queue_count c
where not exists (select from brokers_queue q where q.id = c.queue_id) order by c.queue_id limit %s::int

-- name: remove_gone  removes some messages of a queue that is no more: how many
select coalesce(cardinality(brokers_queue_remove(%(queue)s::int, array(
  select m.id from (
    (select r.id from (
      select x.id from brokers_message x
      where x.queue_id = %(queue)s::int and x.lease_until is null and x.due_at is null
      order by x.priority, x.pos limit %(limit)s::int for update skip locked) r)
    union all
    (select l.id from (
      select x.id from brokers_message x where x.queue_id = %(queue)s::int and x.lease_until is not null
      order by x.lease_until limit %(limit)s::int for update skip locked) l)
    union all
    (select d.id from (
      select x.id from brokers_message x where x.queue_id = %(queue)s::int and x.due_at is not null
      order by x.due_at limit %(limit)s::int for update skip locked) d)
  ) m limit %(limit)s::int), 'skipped'::text, 'gone'::text)), 0)

-- name: forget_gone  forgets a queue that is no more, once it has left nothing
with nothing as (
  select where not exists (select from brokers_message m
      where m.queue_id = %(queue)s::int and m.lease_until is null and m.due_at is null)
    and not exists (select from brokers_message m where m.queue_id = %(queue)s::int and m.lease_until is not null)
    and not exists (select from brokers_message m where m.queue_id = %(queue)s::int and m.due_at is not null)
    and not exists (select from brokers_queue_change h where h.queue_id = %(queue)s::int)
), minutes as (
  delete from brokers_queue_minute where queue_id = %(queue)s::int and exists (select from nothing)
)
delete from brokers_queue_count where queue_id = %(queue)s::int and exists (select from nothing)
