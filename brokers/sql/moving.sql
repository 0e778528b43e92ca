-- name: head  the first ready messages of a queue up to an id, locked: their rows, priorities and envelopes
select m.id, m.priority, m.envelope
from generate_series(0, %(levels)s::int) as l (level), lateral (
  select x.id, x.pos, x.priority, x.envelope from brokers_message x
  where x.queue_id = %(queue)s::int and x.priority = %(levels)s::int - l.level and x.pos <= %(newest)s::bigint
    and x.lease_until is null and x.due_at is null
  order by x.pos limit %(limit)s::int for update skip locked) m
limit %(limit)s::int

-- name: move  messages to another queue: how many; null when that is no more
select brokers_queue_move(%s::int, %s::int, %s::bigint, %s::bigint[], %s::smallint[], %s::bigint[])

-- name: newest  the id of the newest message of all queues
select last_value from brokers_message_pos_seq
