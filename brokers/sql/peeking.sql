-- name: ready  messages that wait, in the order in which they will be handed out, each level after a position
select x.id, x.queue_id, x.pos, x.priority, x.token, x.lease_until, x.due_at, x.expires_at, x.published_at, x.holder,
  x.deliveries, x.returns, x.attempts, x.revision, x.dead_letter_id, x.replay_item_id, x.encoding, x.envelope, x.body
from unnest(%(priorities)s::smallint[], %(after)s::bigint[]) with ordinality as w (priority, after, ordinal),
  lateral (
    select r.* from brokers_message r
    where r.queue_id = %(queue)s::int and r.priority = w.priority and r.pos > w.after
      and r.lease_until is null and r.due_at is null
    order by r.pos limit %(limit)s::int) x
order by w.ordinal, x.pos limit %(limit)s::int

-- name: delayed  messages that are not due yet, the next one first
select m.id, m.queue_id, m.pos, m.priority, m.token, m.lease_until, m.due_at, m.expires_at, m.published_at, m.holder,
  m.deliveries, m.returns, m.attempts, m.revision, m.dead_letter_id, m.replay_item_id, m.encoding, m.envelope, m.body
from brokers_message m
where m.queue_id = %s::int and m.due_at is not null and (m.due_at, m.id) > (%s::timestamptz, %s::bigint)
order by m.due_at, m.id limit %s::int

-- name: held  messages under a claim, the one whose lease ends next first
select m.id, m.queue_id, m.pos, m.priority, m.token, m.lease_until, m.due_at, m.expires_at, m.published_at, m.holder,
  m.deliveries, m.returns, m.attempts, m.revision, m.dead_letter_id, m.replay_item_id, m.encoding, m.envelope, m.body
from brokers_message m
where m.queue_id = %s::int and m.lease_until is not null and (m.lease_until, m.id) > (%s::timestamptz, %s::bigint)
order by m.lease_until, m.id limit %s::int
