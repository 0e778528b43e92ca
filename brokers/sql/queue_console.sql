-- name: marks  open dead letters of queues, with what is not folded yet, and how much longer each is than five minutes ago
select q.id, coalesce((
    select sum(f.open_count + coalesce((select sum(c.change) from brokers_failure_change c
      where c.failure_group_id = f.id and c.state = 'open'), 0))
    from brokers_failure_group f where f.source = q.name and f.source_kind = 'queue'), 0)::bigint,
  coalesce((select sum(m.arrived - m.gone) from brokers_queue_minute m
    where m.queue_id = q.id and m.minute >= date_trunc('minute', clock_timestamp()) - interval '5 minutes'), 0)::bigint
from brokers_queue q where q.id = any(%s::int[])

-- name: held  messages under a claim, those first whose lease ends first
select m.id, m.pos, coalesce(m.holder, ''), m.claimed_at, m.lease_until,
  (extract(epoch from m.lease_until - clock_timestamp()) * 1000)::bigint, m.deliveries, m.returns, m.attempts
from brokers_message m where m.queue_id = %s::int and m.lease_until is not null
order by m.lease_until, m.id limit %s::int

-- name: consumers  who consumes a queue, in the order in which they came
select c.name, c.kind, c.prefetch, c.registered_at, (extract(epoch from c.lapses_at - clock_timestamp()) * 1000)::bigint
from brokers_queue_consumer c where c.queue_id = %s::int order by c.id limit %s::int

-- name: reach  what an exchange leads to through exchanges and alternate exchanges: a line for each pair, and how many bindings
with recursive reached (id, name, alternate) as (
  select e.id, e.name, e.alternate_exchange from brokers_exchange e where e.name = %(exchange)s::text
  union
  select t.id, t.name, t.alternate_exchange from reached r
  cross join lateral (
    select b.to_exchange_id as id from brokers_binding b where b.exchange_id = r.id and b.to_exchange_id is not null
    union
    select a.id from brokers_exchange a where a.name = r.alternate) n
  join brokers_exchange t on t.id = n.id
)
select r.name, coalesce(q.name, t.name), q.id is not null, count(*), min(b.routing_key), r.id
from reached r join brokers_binding b on b.exchange_id = r.id
left join brokers_queue q on q.id = b.queue_id left join brokers_exchange t on t.id = b.to_exchange_id
group by r.name, r.id, q.id, q.name, t.name
union all
select r.name, a.name, false, 0, '', r.id from reached r join brokers_exchange a on a.name = r.alternate
order by 6, 3 desc, 2 limit %(limit)s::int

-- name: policies  all policies, those first that win, with how many queues match each
select p.name, p.pattern, p.priority, p.message_ttl_ms, p.expires_ms, p.max_length, p.overflow, p.dead_letter_exchange,
  p.dead_letter_routing_key, p.delivery_limit, (select count(*) from brokers_queue q where q.name ~ p.pattern)
from brokers_queue_policy p order by p.priority desc, p.name limit %s::int

-- name: policy  a policy by its name, with how many queues match it
select p.name, p.pattern, p.priority, p.message_ttl_ms, p.expires_ms, p.max_length, p.overflow, p.dead_letter_exchange,
  p.dead_letter_routing_key, p.delivery_limit, (select count(*) from brokers_queue q where q.name ~ p.pattern)
from brokers_queue_policy p where p.name = %s::text

-- name: matching  names of queues that match a pattern
select q.name from brokers_queue q where q.name ~ %s::text order by q.name limit %s::int

-- name: look  messages after a place: ready ones as they will be handed out, delayed ones, those under a claim; with the beginning of each body
with places as (
  (select 0 as kind, w.level::bigint as major, x.pos as minor, x.id
    from generate_series(greatest(255 - %(most)s::int, case %(kind)s::int when 0 then %(major)s::bigint else 0 end), 255)
      as w (level), lateral (
      select r.pos, r.id from brokers_message r
      where r.queue_id = %(queue)s::int and r.priority = 255 - w.level and r.lease_until is null and r.due_at is null
        and r.pos > case when w.level = %(major)s::bigint then %(minor)s::bigint else -1 end
      order by r.pos limit %(limit)s::int) x
    where %(kind)s::int = 0 order by w.level, x.pos limit %(limit)s::int)
  union all
  (select 1, (extract(epoch from m.due_at) * 1000000)::bigint, m.id, m.id from brokers_message m
    where m.queue_id = %(queue)s::int and m.due_at is not null and %(kind)s::int <= 1 and (m.due_at, m.id) > (
      timestamptz 'epoch' + case %(kind)s::int when 1 then %(major)s::bigint else 0 end * interval '1 microsecond',
      %(minor)s::bigint)
    order by m.due_at, m.id limit %(limit)s::int)
  union all
  (select 2, (extract(epoch from m.lease_until) * 1000000)::bigint, m.id, m.id from brokers_message m
    where m.queue_id = %(queue)s::int and m.lease_until is not null and (m.lease_until, m.id) > (
      timestamptz 'epoch' + case %(kind)s::int when 2 then %(major)s::bigint else 0 end * interval '1 microsecond',
      %(minor)s::bigint)
    order by m.lease_until, m.id limit %(limit)s::int)
)
select p.kind, p.major, p.minor, octet_length(m.body), m.id, m.queue_id, m.pos, m.priority, m.token, m.lease_until,
  m.due_at, m.expires_at, m.published_at, m.holder, m.deliveries, m.returns, m.attempts, m.revision, m.dead_letter_id,
  m.replay_item_id, m.encoding, m.envelope, substr(m.body, 1, %(bytes)s::int)
from (select * from places order by kind, major, minor limit %(limit)s::int) p join brokers_message m on m.id = p.id
order by p.kind, p.major, p.minor

-- name: message  one message of a queue
select m.id, m.queue_id, m.pos, m.priority, m.token, m.lease_until, m.due_at, m.expires_at, m.published_at, m.holder,
  m.deliveries, m.returns, m.attempts, m.revision, m.dead_letter_id, m.replay_item_id, m.encoding, m.envelope, m.body
from brokers_message m where m.id = %s::bigint and m.queue_id = %s::int
