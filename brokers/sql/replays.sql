-- name: judge  says of each dead letter selected whether it would be replayed, and freezes them as items of a replay
with given as (
  select %s::bigint as replay, %s::boolean as to_source, %s::boolean as patched, %s::int as most
), selected as materialized (
  select d.id, d.state, d.revision, d.source_kind, d.source, d.group_name, d.partition_id, d.partition, d.record_offset,
    d.idempotency_key, case d.source_kind when 'queue' then brokers_queue_consumer_name(d.source) else d.group_name end
      as consumer
  from brokers_dead_letter d where true /* selected */ limit %s::int
), judged as materialized (
  select s.id, s.revision, s.source_kind, s.source, s.group_name, case
    when s.state = 'replayed' then case when s.revision > 1 then 'superseded' else 'already_processed' end
    when s.state <> 'open' then s.state
    when to_source and s.source_kind <> 'task' and q.id is null and (p.id is null or g.id is null) then 'gone'
    when to_source and m.consumer is not null then 'already_processed'
    when patched and v.encoding <> 1 and v.value is not null then 'not_json'
    else '' end as why,
    row_number() over (order by s.source, s.partition, s.record_offset, s.id) - 1 as position
  from given cross join selected s
  left join brokers_partition p on s.source_kind = 'topic' and p.id = s.partition_id
  left join brokers_consumer_group g on g.name = s.group_name
  left join brokers_queue q on s.source_kind = 'queue' and q.name = s.source
  left join processed_messages m on to_source and m.consumer = s.consumer and m.message_key = s.idempotency_key
  left join brokers_dead_letter_revision v on patched and v.dead_letter_id = s.id and v.number = s.revision
), frozen as (
  insert into brokers_replay_item (replay_id, position, dead_letter_id, revision, outcome, why)
  select given.replay, j.position, j.id, j.revision, case when j.why = '' then 'waiting' else 'skipped' end, j.why
  from given, judged j where given.replay is not null and (select count(*) from judged) <= given.most
  order by j.position
)
select 'why', why, null, null, count(*) from judged group by why
union all select 'consumer', source_kind, source, group_name, count(*) from judged
  group by source_kind, source, group_name
union all (select 'sample', null, null, null, id from judged where why = '' order by position limit 5)

-- name: contents  revisions of dead letters, and whose they are
select d.id, d.source_kind, d.source, d.group_name, d.state, d.revision, v.key, v.value, v.encoding, v.headers,
  d.envelope
from brokers_dead_letter d join brokers_dead_letter_revision v on v.dead_letter_id = d.id and v.number = d.revision
where d.id = any(%s::bigint[])

-- name: make  a replay without items: its id
insert into brokers_replay (state, selection, consumers, target, edit, rate_per_second, canary, stop_when_failed_again,
  reason, created_by, created_at, starts_at, expires_at, changed_at, skips)
select %(state)s::text, %(selection)s::jsonb, '[]'::jsonb, %(target)s::jsonb, %(edit)s::jsonb, %(rate)s::float8,
  %(canary)s::jsonb, %(stop)s::float8, %(reason)s::text, %(actor)s::text, clock.now, clock.now,
  clock.now + %(expires)s::float8 * interval '1 second', clock.now, '{}'::jsonb
from (select clock_timestamp() as now offset 0) clock returning id

-- name: fill  what the plan came to
update brokers_replay set total = %s::bigint, skips = %s::jsonb, consumers = %s::jsonb where id = %s::bigint

-- name: lock  a replay's state, whether its plan has expired, and what its rate is
select state, resumes_as, expires_at < clock_timestamp(), rate_per_second, finished_at is not null
from brokers_replay where id = %s::bigint for update

-- name: apply  a plan begins after a moment in which it can be taken back
update brokers_replay set state = 'waiting', starts_at = clock_timestamp() + %s::float8 * interval '1 second',
  expires_at = null, changed_at = clock_timestamp() where id = %s::bigint

-- name: pause  keeps a replay from sending
update brokers_replay set state = 'paused', resumes_as = state, changed_at = clock_timestamp() where id = %s::bigint

-- name: resume  lets a replay send again; its rate does not make up for the pause
update brokers_replay set state = resumes_as, resumes_as = null, budget_at = null, changed_at = clock_timestamp()
where id = %s::bigint

-- name: change_rate  items sent in a second
update brokers_replay set rate_per_second = %s::float8, budget_at = null, changed_at = clock_timestamp()
where id = %s::bigint

-- name: close  a replay is over: nothing more is sent
update brokers_replay set state = %s::text, stop_cause = %s::text, resumes_as = null, changed_at = clock_timestamp(),
  finished_at = case when %s::boolean then clock_timestamp() end
where id = %s::bigint

-- name: skip_unsent  some of what was not sent never will be: how many
with unsent as materialized (
  select i.id, i.replay_id, i.outcome from brokers_replay r, lateral (
    select id, replay_id, outcome from brokers_replay_item
    where (replay_id, outcome, position) >= (r.id, 'waiting', r.next_position)
    order by replay_id, outcome, position limit %(limit)s::int) i
  where r.id = %(replay)s::bigint
), skipped as (
  update brokers_replay_item set outcome = 'skipped', why = 'cancelled', finished_at = clock_timestamp()
  where id = any(array(select id from unsent where replay_id = %(replay)s::bigint and outcome = 'waiting'))
  returning 1
)
select count(*) from skipped

-- name: swept  nothing is left of a replay that is over
update brokers_replay set finished_at = clock_timestamp() where id = %s::bigint

-- name: by_index  for the rest of the transaction: what is known of tables that grow fast is often wrong
select set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true), set_config('jit', 'off', true)

-- name: live  replays that may have something to do
select id from brokers_replay where finished_at is null and state not in ('planned', 'paused')
order by id limit %s::int

-- name: take  a replay that nobody else moves now, and what time it is
select id, state, target::text, edit->>'merge_patch', rate_per_second, (canary->>'count')::int,
  (canary->>'min_success')::float8, stop_when_failed_again, created_by, next_position, budget_at, starts_at, clock.now
from brokers_replay, (select clock_timestamp() as now offset 0) clock
where id = %s::bigint and finished_at is null for update of brokers_replay skip locked

-- name: standing  sent, succeeded and failed again so far, items under way, whether any is unsent
select r.sent + coalesce(c.sent, 0), r.succeeded + coalesce(c.succeeded, 0),
  r.failed_again + coalesce(c.failed_again, 0), under_way.items,
  coalesce((next.replay_id, next.outcome) = (r.id, 'waiting'), false)
from brokers_replay r, lateral (
  select sum(c.sent)::bigint as sent, sum(c.succeeded)::bigint as succeeded, sum(c.failed_again)::bigint as failed_again
  from brokers_replay_change c where c.replay_id = r.id) c, lateral (
  select count(*) filter (where (i.replay_id, i.outcome) = (r.id, 'waiting') and i.position < r.next_position) as items
  from (
    select replay_id, outcome, position from brokers_replay_item
    where (replay_id, outcome, position) >= (r.id, 'waiting', 0)
    order by replay_id, outcome, position limit %s::int) i) under_way
left join lateral (
  select replay_id, outcome from brokers_replay_item
  where (replay_id, outcome, position) >= (r.id, 'waiting', r.next_position)
  order by replay_id, outcome, position limit 1) next on true
where r.id = %s::bigint

-- name: newest_outcomes  of the newest outcomes: how many, and how many failed again
select count(*), count(*) filter (where outcome = 'failed_again') from (
  select outcome from brokers_replay_item where replay_id = %s::bigint and outcome in ('succeeded', 'failed_again')
  order by finished_at desc limit %s::int) newest

-- name: begin  a replay's grace is over
update brokers_replay set state = %s::text, changed_at = clock_timestamp() where id = %s::bigint

-- name: next  the next items with their dead letters, locked, and why each cannot be sent now, if so
with given as (select %(to_source)s::boolean as to_source, %(patched)s::boolean as patched),
batch as materialized (
  select * from (
    select i.*, sum(d.size) over (order by i.position) - d.size as before
    from (
      select id, position, dead_letter_id, revision, replay_id, outcome from brokers_replay_item
      where (replay_id, outcome, position) >= (%(replay)s::bigint, 'waiting', %(position)s::bigint)
      order by replay_id, outcome, position limit %(items)s::int) i
    left join lateral (select size from brokers_dead_letter where id = i.dead_letter_id offset 0) d on true
    where i.replay_id = %(replay)s::bigint and i.outcome = 'waiting') sized
  where before is null or before < %(bytes)s::bigint
), letters as materialized (
  select id, state, revision, source_kind, source, group_name, partition_id, idempotency_key, attempts, exchange,
    routing_key, message_id, correlation_id, envelope, priority
  from brokers_dead_letter where id = any(array(select dead_letter_id from batch)) and state <> 'replaying'
  order by id for update
)
select b.id, b.position, b.dead_letter_id, b.revision, case
    when l.id is null then case when exists (select from brokers_dead_letter d where d.id = b.dead_letter_id)
      then 'replaying' else 'gone' end
    when l.state = 'replayed' then case when l.revision > 1 then 'superseded' else 'already_processed' end
    when l.state <> 'open' then l.state
    when l.revision <> b.revision then 'superseded'
    when to_source and l.source_kind <> 'task' and q.id is null and (p.id is null or g.id is null) then 'gone'
    when to_source and m.consumer is not null then 'already_processed'
    when patched and v.encoding <> 1 and v.value is not null then 'not_json'
    else '' end,
  l.attempts, g.id, l.partition_id, l.source_kind, l.source, q.id, v.headers, v.encoding,
  case when patched or not to_source then v.key end,
  case when patched or not to_source or l.source_kind = 'task' then v.value end,
  l.exchange, l.routing_key, l.message_id, l.correlation_id, l.envelope, l.priority
from given cross join batch b
left join letters l on l.id = b.dead_letter_id
left join lateral (select key, value, encoding, headers from brokers_dead_letter_revision
  where dead_letter_id = b.dead_letter_id and number = b.revision offset 0) v on true
left join lateral (select id from brokers_partition
  where l.source_kind = 'topic' and id = l.partition_id offset 0) p on true
left join lateral (select id from brokers_consumer_group where name = l.group_name offset 0) g on true
left join lateral (select id from brokers_queue where l.source_kind = 'queue' and name = l.source offset 0) q on true
left join lateral (select consumer from processed_messages
  where to_source and message_key = l.idempotency_key and consumer = case l.source_kind
    when 'queue' then brokers_queue_consumer_name(l.source) else l.group_name end offset 0) m on true
order by b.position

-- name: room  how many more messages these queues take, which nobody adds to until the transaction's end
select q.id, greatest(0, l.most - brokers_queue_ready(q.id)) from (
  select id from brokers_queue where id = any(%(queues)s::int[]) order by id for no key update) q
join unnest(%(queues)s::int[], %(limits)s::bigint[]) as l (id, most) on l.id = q.id

-- name: give_back  revisions of messages into the queues that they died in, in the order given
select brokers_queue_give_back(%(queues)s::int[], %(priorities)s::smallint[], %(ttls)s::bigint[],
  %(envelopes)b::bytea[], %(letters)s::bigint[], %(items)s::bigint[], %(revisions)s::int[])

-- name: revise  new revisions by a merge patch, each with its dead letter and its item
with made as (
  insert into brokers_dead_letter_revision (dead_letter_id, number, key, value, encoding, headers, origin, created_by)
  select m.letter, m.revision, m.key, m.value, 1, m.headers, 'merge_patch', %(actor)s::text
  from unnest(%(letters)s::bigint[], %(revisions)s::int[], %(keys)b::bytea[], %(values)b::bytea[], %(headers)b::bytea[])
    as m (letter, revision, key, value, headers)
), items as (
  update brokers_replay_item set revision = revision + 1 where id = any(%(items)s::bigint[])
)
update brokers_dead_letter d set revision = d.revision + 1,
  size = (%(sizes)s::int[])[array_position(%(letters)s::bigint[], d.id)]
where d.id = any(%(letters)s::bigint[])

-- name: sent  items on their way, and their dead letters; with an outcome at once when they were published
with given as materialized (select %(published)s::boolean as published, clock_timestamp() as now),
items as (
  update brokers_replay_item set sent_at = now, outcome = case when published then 'succeeded' else 'waiting' end,
    finished_at = case when published then now end
  from given where id = any(%(items)s::bigint[])
)
update brokers_dead_letter set state = case when published then 'replayed' else 'replaying' end,
  replays = replays + 1, changed_at = now
from given where id = any(%(letters)s::bigint[])

-- name: done  an item that was given back to its task has succeeded, and its dead letter is replayed
with item as (
  update brokers_replay_item set outcome = 'succeeded', why = '', finished_at = clock_timestamp()
  where id = %(item)s::bigint and outcome = 'waiting'
)
update brokers_dead_letter set state = 'replayed', changed_at = clock_timestamp()
where id = %(letter)s::bigint and state = 'replaying'

-- name: skipped  items that cannot be sent, and why
update brokers_replay_item set outcome = 'skipped', why = %s::text, finished_at = clock_timestamp()
where id = any(%s::bigint[])

-- name: moved  a replay has come so far; its rate's budget is spent up to that moment
update brokers_replay set next_position = %s::bigint, budget_at = %s::timestamptz where id = %s::bigint

-- name: over  replays whose items may be removed: plans that nobody applied, and old ones
(select id from brokers_replay where finished_at is null and state = 'planned' and expires_at < clock_timestamp()
  order by id limit %s::int)
union all
(select id from brokers_replay where finished_at < clock_timestamp() - %s::int * interval '1 day'
  order by id limit %s::int)

-- name: remove_items  some of a replay's items: how many
with gone as (
  delete from brokers_replay_item where id = any(array(
    select id from brokers_replay_item where replay_id = %s::bigint order by position limit %s::int)) returning 1
)
select count(*) from gone

-- name: remove  a replay without items
delete from brokers_replay where id = %s::bigint
