-- name: claim  takes ready messages, level by level of priority and by age, each level from its low-water hint on
select m.id, m.queue_id, m.pos, m.priority, m.token, m.lease_until, m.due_at, m.expires_at, m.published_at, m.holder,
  m.deliveries, m.returns, m.attempts, m.revision, m.dead_letter_id, m.replay_item_id, m.encoding, m.envelope, m.body
from brokers_queue_claim(
  %s::int, %s::smallint[], %s::bigint[], %s::int, %s::bigint, %s::text, %s::text, %s::boolean) m

-- name: ack  removes the messages whose claim still holds: which of the claims those are, counted from 1
select brokers_queue_ack(%s::int, %s::bigint[], %s::uuid[])

-- name: requeue  gives claimed messages back; `counts` is 0 or 1, and says how much of a return it is: rows, tokens, places
with mine as materialized (
  select m.id, m.token, m.lease_until is not null as is_held from brokers_message m
  join unnest(%(rows)s::bigint[], %(tokens)s::uuid[]) as a (id, token) on a.id = m.id and a.token = m.token
  where m.queue_id = %(queue)s::int order by m.id for update of m
)
update brokers_message m set token = null, lease_until = null, holder = null,
  due_at = clock_timestamp() + nullif(%(delay)s::bigint, 0) * interval '1 millisecond',
  returns = m.returns + case when mine.is_held then %(returns)s::int else 0 end
from mine where m.id = mine.id
returning m.id, mine.token, m.priority, m.pos

-- name: extend  lets claims last from now on for as long as is said, if they still hold: rows and tokens
with mine as materialized (
  select m.id from brokers_message m
  join unnest(%(rows)s::bigint[], %(tokens)s::uuid[]) as a (id, token) on a.id = m.id and a.token = m.token
  where m.queue_id = %(queue)s::int and m.lease_until is not null order by m.id for update of m
)
update brokers_message m set lease_until = clock_timestamp() + %(lease)s::bigint * interval '1 millisecond'
from mine where m.id = mine.id
returning m.id, m.token

-- name: locked  the messages whose claim still holds, locked in order
select m.id, m.queue_id, m.pos, m.priority, m.token, m.lease_until, m.due_at, m.expires_at, m.published_at, m.holder,
  m.deliveries, m.returns, m.attempts, m.revision, m.dead_letter_id, m.replay_item_id, m.encoding, m.envelope, m.body
from brokers_message m
join unnest(%s::bigint[], %s::uuid[]) as a (id, token) on a.id = m.id and a.token = m.token
where m.queue_id = %s::int order by m.id for update of m

-- name: ready  which of these queues have messages that are ready
select q.id from unnest(%s::int[]) as q (id) where exists (
  select from brokers_message m where m.queue_id = q.id and m.lease_until is null and m.due_at is null)

-- name: extend_all  lets claims of any queues last from now on, but for those being settled right now
with mine as materialized (
  select m.id from brokers_message m
  join unnest(%s::bigint[], %s::uuid[]) as a (id, token) on a.id = m.id and a.token = m.token
  where m.lease_until is not null order by m.id for update of m skip locked
)
update brokers_message m set lease_until = clock_timestamp() + %s::bigint * interval '1 millisecond'
from mine where m.id = mine.id
