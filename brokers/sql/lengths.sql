-- name: fold  adds some of the ledger of queues and exchanges to their counts and minutes: how many rows, the last id
with taken as (
  delete from brokers_queue_change where id = any(array(
    select x.id from brokers_queue_change x where x.id > %s::bigint order by x.id limit %s::int
    for update skip locked))
  returning *
), counts as (
  insert into brokers_queue_count as c (queue_id, messages)
  select t.queue_id, sum(t.arrived - t.gone) from taken t where t.queue_id is not null group by 1 order by 1
  on conflict (queue_id) do update set messages = c.messages + excluded.messages
), queue_minutes as (
  insert into brokers_queue_minute as m (queue_id, minute, arrived, gone)
  select t.queue_id, date_trunc('minute', t.at), sum(t.arrived), sum(t.gone)
  from taken t where t.queue_id is not null group by 1, 2 order by 1, 2
  on conflict (queue_id, minute) do update
    set arrived = m.arrived + excluded.arrived, gone = m.gone + excluded.gone
), exchange_minutes as (
  insert into brokers_exchange_minute as m (exchange_id, minute, published, unrouted)
  select t.exchange_id, date_trunc('minute', t.at), sum(t.arrived), sum(t.gone)
  from taken t where t.exchange_id is not null group by 1, 2 order by 1, 2
  on conflict (exchange_id, minute) do update
    set published = m.published + excluded.published, unrouted = m.unrouted + excluded.unrouted
)
select count(*), max(id) from taken

-- name: forget_queue_minutes  removes old minutes of queues, a bounded number
delete from brokers_queue_minute where (queue_id, minute) in (
  select m.queue_id, m.minute from brokers_queue_minute m
  where m.minute < statement_timestamp() - %s::int * interval '1 day' order by m.minute limit %s::int)

-- name: forget_exchange_minutes  removes old minutes of exchanges, a bounded number
delete from brokers_exchange_minute where (exchange_id, minute) in (
  select m.exchange_id, m.minute from brokers_exchange_minute m
  where m.minute < statement_timestamp() - %s::int * interval '1 day' order by m.minute limit %s::int)

-- name: figures  how many messages queues hold, and how many of those are unacknowledged and delayed
select q.id, coalesce(c.messages, 0) + x.more, leased.messages, due.messages
from unnest(%s::int[]) as q (id)
left join brokers_queue_count c on c.queue_id = q.id
cross join lateral (
  select coalesce(sum(h.arrived - h.gone), 0)::bigint as more from brokers_queue_change h where h.queue_id = q.id) x
cross join lateral (
  select count(*) as messages from brokers_message m where m.queue_id = q.id and m.lease_until is not null) leased
cross join lateral (
  select count(*) as messages from brokers_message m where m.queue_id = q.id and m.due_at is not null) due

-- name: newest  the id of the newest message of all queues
select last_value from brokers_message_pos_seq

-- name: purge  removes some ready messages of one priority of a queue, up to an id: how many, and the last one's id
with found as (
  select x.id, x.pos from brokers_message x
  where x.queue_id = %(queue)s::int and x.priority = %(priority)s::smallint and x.pos > %(after)s::bigint
    and x.pos <= %(newest)s::bigint and x.lease_until is null and x.due_at is null
  order by x.pos limit %(limit)s::int for update skip locked
)
select coalesce(cardinality(brokers_queue_remove(%(queue)s::int, array(select id from found), 'skipped'::text,
  'gone'::text)), 0), (select max(pos) from found)

-- name: purge_delayed  removes some delayed messages of a queue, up to an id: how many
select coalesce(cardinality(brokers_queue_remove(%(queue)s::int, array(
  select x.id from brokers_message x
  where x.queue_id = %(queue)s::int and x.due_at is not null and x.pos <= %(newest)s::bigint
  order by x.due_at limit %(limit)s::int for update skip locked), 'skipped'::text, 'gone'::text)), 0)
