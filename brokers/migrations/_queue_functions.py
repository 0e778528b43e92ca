"""The stored functions of queues, as migration 0008 installs them: publish, acknowledge, requeue, and taking away.

Each is one statement for its caller, synchronous or not, and whoever changes how many messages a queue holds adds a
row to `brokers_queue_change` here: nowhere else are messages inserted or deleted.
"""

STORAGE = """
alter table {schema}.brokers_message
  set (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_threshold = 100000, autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_analyze_threshold = 10000);
alter table {schema}.brokers_queue_change
  set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
alter table {schema}.brokers_message alter body set storage external;
create sequence {schema}.brokers_message_pos_seq;
create sequence {schema}.brokers_topology_version_seq
"""

# The version of the topology; it never comes again, whatever becomes of the row.
TOPOLOGY = """
create function {schema}.brokers_topology_version() returns bigint language sql stable as $$
  select coalesce((select t.version from {schema}.brokers_topology t where t.id = 1), 0)
$$
"""

TOPOLOGY_CHANGED = """
create function {schema}.brokers_topology_changed() returns bigint language sql volatile as $$
  insert into {schema}.brokers_topology (id, version) values (1, nextval('{schema}.brokers_topology_version_seq'))
  on conflict (id) do update set version = nextval('{schema}.brokers_topology_version_seq') returning version
$$
"""

# How the functions that run for each message are planned: once, and by index, whatever the statistics say. PostgreSQL
# would plan each call anew, because it guesses that arrays and limits which it cannot see are large, and that costs
# several times what the call does.
PLANNED = "set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off"

# Stores `total` messages, of which some go to no queue, and answers the id of each in the order given; null, and stores
# nothing, when the topology is not the one that the caller routed by. `target_places` say which of the messages,
# counted from 1, a copy is of, and `queues` and what follows where it goes; null for all of `priorities` (0),
# `delays_ms` or `ttls_ms` means none. `guarded` are the queues among them that refuse what exceeds their length, with
# their limits: a publisher to one of them locks its row, and so waits for others until their commit. SQLSTATE WS001:
# such a queue is full; its id is the message.
PUBLISH = """
create function {schema}.brokers_queue_publish(routed_by bigint, total int, exchange int, unrouted int,
  guarded int[], limits bigint[], envelopes bytea[], bodies bytea[], encodings smallint[],
  target_places int[], queues int[], priorities smallint[], delays_ms bigint[], ttls_ms bigint[])
returns bigint[] language plpgsql {planned} as $$
declare ids bigint[]; full_queue int; at timestamptz; begin
  if coalesce((select t.version from {schema}.brokers_topology t where t.id = 1), 0) <> routed_by then
    return null;
  end if;
  if guarded is not null then
    perform from {schema}.brokers_queue q where q.id = any(guarded) order by q.id for no key update;
    select g.queue into full_queue from unnest(guarded, limits) as g (queue, most)
      where g.most < {schema}.brokers_queue_ready(g.queue)
        + (select count(*) from unnest(queues) as t (queue) where t.queue = g.queue)
      order by 1 limit 1;
    if found then
      raise exception '%', full_queue using errcode = 'WS001';
    end if;
  end if;
  if total = 1 then
    ids := array[nextval('{schema}.brokers_message_pos_seq')];
  else
    ids := array(select nextval('{schema}.brokers_message_pos_seq') from generate_series(1, total));
  end if;
  at := clock_timestamp();
  if queues is not null then
    insert into {schema}.brokers_message (queue_id, priority, pos, published_at, due_at, expires_at, encoding,
      envelope, body)
    select t.queue, coalesce(t.priority, 0), ids[t.place], at, at + t.delay * interval '1 millisecond',
      at + (coalesce(t.delay, 0) + t.ttl) * interval '1 millisecond', encodings[t.place], envelopes[t.place],
      bodies[t.place]
    from unnest(target_places, queues, priorities, delays_ms, ttls_ms) as t (place, queue, priority, delay, ttl);
    if cardinality(queues) = 1 then
      insert into {schema}.brokers_queue_change (queue_id, arrived) values (queues[1], 1);
    else
      insert into {schema}.brokers_queue_change (queue_id, arrived)
        select t.queue, count(*) from unnest(queues) as t (queue) group by t.queue;
    end if;
  end if;
  if exchange is not null then
    insert into {schema}.brokers_queue_change (exchange_id, arrived, gone) values (exchange, total, unrouted);
  end if;
  return ids;
end $$
"""

# Claims up to `most` ready messages of a queue that is not paused: level by level of `priorities`, by age in each, each
# level from its low-water hint on; fewer when their bodies have more than 16 MiB together. With a `consumer`, only if
# that is the active one. Rows are locked one by one as they are found, never more than are wanted, and updated where
# they stand. With `relaxed` the commit is not waited for until it is on disk: if a crash of the server loses the claim,
# its token is worth nothing and the message comes again.
CLAIM = """
create function {schema}.brokers_queue_claim(queue int, priorities smallint[], hints bigint[], most int,
  lease_ms bigint, claimed_by text, consumer text, relaxed boolean)
returns setof {schema}.brokers_message language plpgsql rows 100 {planned} set enable_bitmapscan = off as $$
declare at timestamptz := clock_timestamp(); begin
  if relaxed then
    perform set_config('synchronous_commit', 'off', true);
  end if;
  if consumer is not null and consumer is distinct from (
    select c.name from {schema}.brokers_queue_consumer c
    where c.queue_id = queue order by c.id limit 1 for key share)
  then   -- it stays the active one until this claim is through, since to end that takes its row away
    return;
  end if;
  return query update {schema}.brokers_message m set token = gen_random_uuid(),
    lease_until = at + lease_ms * interval '1 millisecond', deliveries = m.deliveries + 1, holder = claimed_by,
    claimed_at = at
  where m.ctid = any(array(
    select y.ctid from (
      select x.ctid, sum(x.size) over (rows unbounded preceding) - x.size as before
      from (
        select x.ctid, x.size from unnest(priorities, hints) as w (priority, hint), lateral (
          select r.ctid, octet_length(r.body)::bigint as size from {schema}.brokers_message r
          where r.queue_id = queue and r.priority = w.priority and r.pos >= w.hint
            and r.lease_until is null and r.due_at is null and (r.expires_at is null or r.expires_at > at)
          order by r.pos limit most for update skip locked) x
        where exists (select from {schema}.brokers_queue q where q.id = queue and not q.paused)
        limit most) x) y
    where y.before < 16777216))
  returning m.*;
end $$
"""

# Ready messages: what came and did not leave, but for those under a claim or not due.
READY = """
create function {schema}.brokers_queue_ready(queue int) returns bigint language sql stable as $$
  select coalesce((select c.messages from {schema}.brokers_queue_count c where c.queue_id = queue), 0)
    + coalesce((select sum(x.arrived - x.gone) from {schema}.brokers_queue_change x where x.queue_id = queue), 0)
    - (select count(*) from {schema}.brokers_message m where m.queue_id = queue and m.lease_until is not null)
    - (select count(*) from {schema}.brokers_message m where m.queue_id = queue and m.due_at is not null)
$$
"""

# What follows when messages have been taken away: the ledger's row, attempts go with them, and what a replay gave back is
# settled by `item_outcome`: succeeded (handled), or skipped for the given reason, and then its dead letter is open again.
REMOVED = """
create function {schema}.brokers_queue_removed(queue int, many int, tried bigint[], items bigint[], letters bigint[],
  item_outcome text, item_why text)
returns void language plpgsql {planned} as $$
begin
  insert into {schema}.brokers_queue_change (queue_id, gone) values (queue, many);
  if tried is not null then
    delete from {schema}.brokers_message_attempt a where a.message_id = any(tried);
  end if;
  if items is not null then
    update {schema}.brokers_replay_item i set outcome = item_outcome, why = item_why, finished_at = clock_timestamp()
      where i.id = any(items) and i.outcome = 'waiting';
  end if;
  if letters is not null then
    update {schema}.brokers_dead_letter d
      set state = case when item_outcome = 'succeeded' or item_why = 'already_processed' then 'replayed' else 'open' end,
        changed_at = clock_timestamp()
      where d.id = any(letters) and d.state = 'replaying';
  end if;
end $$
"""

# Takes away messages by id: with acknowledgements, the one place where messages end.
REMOVE = """
create function {schema}.brokers_queue_remove(queue int, ids bigint[], item_outcome text, item_why text)
returns bigint[] language plpgsql {planned} as $$
declare gone bigint[]; tried bigint[]; items bigint[]; letters bigint[]; begin
  with removed as (
    delete from {schema}.brokers_message m where m.id = any(ids) and m.queue_id = queue
    returning m.id, m.attempts, m.replay_item_id, m.dead_letter_id
  )
  select array_agg(r.id), array_agg(r.id) filter (where r.attempts > 0),
    array_agg(r.replay_item_id) filter (where r.replay_item_id is not null),
    array_agg(r.dead_letter_id) filter (where r.dead_letter_id is not null)
  into gone, tried, items, letters from removed r;
  if gone is null then
    return '{{}}';
  end if;
  perform {schema}.brokers_queue_removed(queue, cardinality(gone), tried, items, letters, item_outcome, item_why);
  return gone;
end $$
"""

# Acknowledges: removes those whose token is still the claim's; answers which of the pairs that was, counted from 1. Rows
# are found one by one in the order of their ids, so that two calls never wait for each other in a ring.
ACK = """
create function {schema}.brokers_queue_ack(queue int, ids bigint[], tokens uuid[]) returns int[]
language plpgsql {planned} set enable_mergejoin = off as $$
declare places int[]; tried bigint[]; items bigint[]; letters bigint[]; begin
  with removed as (
    delete from {schema}.brokers_message m
    using (select u.id, u.token, u.place
      from unnest(ids, tokens) with ordinality as u (id, token, place) order by u.id) a
    where m.id = a.id and m.token = a.token and m.queue_id = queue
    returning m.id, a.place, m.attempts, m.replay_item_id, m.dead_letter_id
  )
  select array_agg(r.place), array_agg(r.id) filter (where r.attempts > 0),
    array_agg(r.replay_item_id) filter (where r.replay_item_id is not null),
    array_agg(r.dead_letter_id) filter (where r.dead_letter_id is not null)
  into places, tried, items, letters from removed r;
  if places is null then
    return '{{}}';
  end if;
  perform {schema}.brokers_queue_removed(queue, cardinality(places), tried, items, letters, 'succeeded', '');
  return places;
end $$
"""

# Last in a listener's transaction: acknowledges all that it has handled. SQLSTATE WS409: not all of that is its own any
# more. With `relaxed` nothing else is in the transaction: if a crash of the server loses it, the messages come again.
SETTLE = """
create function {schema}.brokers_queue_settle(queue int, ids bigint[], tokens uuid[], relaxed boolean) returns int
language plpgsql as $$
declare acked int; begin
  if relaxed then
    perform set_config('synchronous_commit', 'off', true);
  end if;
  acked := cardinality({schema}.brokers_queue_ack(queue, ids, tokens));
  if acked < cardinality(ids) then
    raise exception '% of % messages are not claimed by their handler any more', cardinality(ids) - acked,
      cardinality(ids) using errcode = 'WS409';
  end if;
  return acked;
end $$
"""

# Gives dead letters back to the queues that they came from, as new messages in the order given: bodies are those of the
# revisions, a missing one is JSON's null.
GIVE_BACK = """
create function {schema}.brokers_queue_give_back(queues int[], priorities smallint[], ttls_ms bigint[],
  envelopes bytea[], letters bigint[], items bigint[], revisions int[])
returns void language sql volatile as $$
  with stored as (
    insert into {schema}.brokers_message (queue_id, priority, pos, published_at, expires_at, encoding, envelope, body,
      revision, dead_letter_id, replay_item_id)
    select g.queue, g.priority, nextval('{schema}.brokers_message_pos_seq'), g.at,
      g.at + g.ttl * interval '1 millisecond', case when g.value is null then 1 else g.encoding end, g.envelope,
      coalesce(g.value, 'null'), g.revision, g.letter, g.item
    from (
      select b.*, v.value, v.encoding, now.at
      from (select clock_timestamp() as at offset 0) now,
        unnest(queues, priorities, ttls_ms, envelopes, letters, items, revisions) with ordinality
          as b (queue, priority, ttl, envelope, letter, item, revision, ordinal)
      join {schema}.brokers_dead_letter_revision v on v.dead_letter_id = b.letter and v.number = b.revision
      order by b.ordinal) g
  )
  insert into {schema}.brokers_queue_change (queue_id, arrived)
    select b.queue, count(*) from unnest(queues) as b (queue) group by b.queue
$$
"""

# Whose processed keys a queue's listener has: `brokers.processed.consumer_of_queue` in SQL.
CONSUMER_NAME = """
create function {schema}.brokers_queue_consumer_name(queue text) returns text language sql immutable as $$
  select case when length(queue) <= 243 then 'queue:' || queue
    else left('queue:' || queue, 232) || ':' || left(encode(sha256(convert_to(queue, 'UTF8')), 'hex'), 16) end
$$
"""

# Moves ready messages, locked by the caller, to the end of another queue: they stay the rows that they are, and so are
# in one place at any time. Answers how many; null when the other queue is no more. `most` is its length where it
# refuses what exceeds that; SQLSTATE WS001 then as above.
MOVE = """
create function {schema}.brokers_queue_move(source int, target int, most bigint, ids bigint[], priorities smallint[],
  ttls_ms bigint[])
returns int language plpgsql as $$
declare moved int; begin
  perform from {schema}.brokers_queue q where q.id = target for no key update;
  if not found then
    return null;
  end if;
  if most < {schema}.brokers_queue_ready(target) + cardinality(ids) then
    raise exception '%', target using errcode = 'WS001';
  end if;
  with given as materialized (
    select g.id, g.priority, g.ttl, nextval('{schema}.brokers_message_pos_seq') as pos, clock_timestamp() as at
    from (select * from unnest(ids, priorities, ttls_ms) with ordinality as u (id, priority, ttl, place)
      order by place) g
  )
  update {schema}.brokers_message m set queue_id = target, priority = g.priority, pos = g.pos, token = null,
    holder = null, claimed_at = null, deliveries = 0, returns = 0, attempts = 0,
    expires_at = g.at + g.ttl * interval '1 millisecond'
  from given g where m.id = g.id and m.queue_id = source and coalesce(m.lease_until, m.due_at) is null;
  get diagnostics moved = row_count;
  if moved > 0 then
    delete from {schema}.brokers_message_attempt a where a.message_id = any(ids);
    insert into {schema}.brokers_queue_change (queue_id, arrived, gone) values (source, 0, moved), (target, moved, 0);
  end if;
  return moved;
end $$
"""

_ALL = [
    STORAGE,
    TOPOLOGY,
    TOPOLOGY_CHANGED,
    READY,
    PUBLISH,
    CLAIM,
    REMOVED,
    REMOVE,
    ACK,
    SETTLE,
    GIVE_BACK,
    CONSUMER_NAME,
    MOVE,
]
FORWARD = [statement.replace("{planned}", PLANNED) for statement in _ALL]

REVERSE = [
    "drop function {schema}.brokers_queue_move(int, int, bigint, bigint[], smallint[], bigint[])",
    "drop function {schema}.brokers_queue_consumer_name(text)",
    "drop function {schema}.brokers_queue_give_back(int[], smallint[], bigint[], bytea[], bigint[], bigint[], int[])",
    "drop function {schema}.brokers_queue_settle(int, bigint[], uuid[], boolean)",
    "drop function {schema}.brokers_queue_ack(int, bigint[], uuid[])",
    "drop function {schema}.brokers_queue_remove(int, bigint[], text, text)",
    "drop function {schema}.brokers_queue_removed(int, int, bigint[], bigint[], bigint[], text, text)",
    "drop function {schema}.brokers_queue_claim(int, smallint[], bigint[], int, bigint, text, text, boolean)",
    "drop function {schema}.brokers_queue_publish(bigint, int, int, int, int[], bigint[], bytea[], bytea[], "
    "smallint[], int[], int[], smallint[], bigint[], bigint[])",
    "drop function {schema}.brokers_queue_ready(int)",
    "drop function {schema}.brokers_topology_changed()",
    "drop function {schema}.brokers_topology_version()",
    "drop sequence {schema}.brokers_topology_version_seq",
    "drop sequence {schema}.brokers_message_pos_seq",
]
