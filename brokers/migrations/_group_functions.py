"""The stored functions of consumer groups, as migration 0003 installs them.

Locks are taken in one order everywhere: the group's, its assignments by partition, its members. Whoever changes
members, owners or the generation holds the group's row FOR NO KEY UPDATE (`brokers_group_lock`); a commit holds it
FOR SHARE to its transaction's end, so commits pass one another and none can pass a take-over. The row lock is the
fence, at every isolation level. The advisory lock before it (of class 1463900487, by the group's id) only keeps the
queue: without it, commits that overlap without an end would let nobody join.
"""

STORAGE = """
alter table {schema}.brokers_group_member
  set (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.02);
alter table {schema}.brokers_group_assignment
  set (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.02);
alter table {schema}.brokers_committed_offset
  set (fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.02)
"""

LOCK = """
create function {schema}.brokers_group_lock(g bigint) returns bigint language plpgsql as $$
declare current bigint;
begin   -- the generation, which nobody else can change before this transaction ends
  perform pg_advisory_xact_lock(1463900487, (g % 2147483647)::int);
  select generation into strict current from {schema}.brokers_consumer_group where id = g for no key update;
  perform from {schema}.brokers_group_assignment where group_id = g order by partition_id for no key update;
  return current;
end $$
"""

OPEN = """
create function {schema}.brokers_group_open(wanted text) returns bigint language plpgsql as $$
declare found_id bigint;
begin   -- the group's id; makes the group when there is none, and locks it
  select id into found_id from {schema}.brokers_consumer_group where name = wanted;
  if not found then
    insert into {schema}.brokers_consumer_group (name, generation, paused) values (wanted, 0, false)
      on conflict (name) do nothing;
    select id into strict found_id from {schema}.brokers_consumer_group where name = wanted;
  end if;
  perform {schema}.brokers_group_lock(found_id);
  return found_id;
end $$
"""

OVERDUE = """
create function {schema}.brokers_member_overdue(heartbeat timestamptz, session_ms int, polled timestamptz, interval_ms int)
  returns text language sql volatile as $$
  select case when clock_timestamp() > heartbeat + session_ms * interval '1 millisecond' then 'session'
              when clock_timestamp() > polled + interval_ms * interval '1 millisecond' then 'poll_interval' end
$$
"""

END = """
create function {schema}.brokers_group_end(g bigint, leaver bigint) returns int language plpgsql as $$
declare ended bigint[];
begin   -- under the lock: ends the session of one that leaves, or of all that are overdue; its partitions are free
  with closed as (
    update {schema}.brokers_group_member set ended_at = clock_timestamp(),
      end_reason = case when id = leaver then 'left' else {schema}.brokers_member_overdue(
        heartbeat_at, session_timeout_ms, polled_at, max_poll_interval_ms) end
    where group_id = g and ended_at is null and (id = leaver or {schema}.brokers_member_overdue(
      heartbeat_at, session_timeout_ms, polled_at, max_poll_interval_ms) is not null)
    returning id)
  select array_agg(id) into ended from closed;
  if ended is null then
    return 0;
  end if;
  update {schema}.brokers_group_assignment set owner_id = null, position = null
    where group_id = g and owner_id = any(ended);
  return cardinality(ended);
end $$
"""

DIVIDE = """
create function {schema}.brokers_group_divide(g bigint, partitions int[], members bigint[]) returns bigint
language plpgsql as $$
declare current bigint;
begin   -- under the lock: the new division of partitions over members, in a new generation
  update {schema}.brokers_consumer_group set generation = generation + 1 where id = g returning generation into current;
  delete from {schema}.brokers_group_assignment where group_id = g and partition_id <> all(partitions);
  insert into {schema}.brokers_group_assignment as a
      (group_id, partition_id, owner_id, target_id, claimed_generation, start_offset)
    select g, x.partition_id, x.member_id, x.member_id, current,
      -- a partition added to a topic that the group reads already holds nothing from before the group's start
      (select 0 from {schema}.brokers_partition mine
        join {schema}.brokers_partition sibling on sibling.topic_id = mine.topic_id
        join {schema}.brokers_group_assignment other on other.partition_id = sibling.id and other.group_id = g
       where mine.id = x.partition_id limit 1)
    from unnest(partitions, members) as x (partition_id, member_id)
  on conflict (group_id, partition_id) do update set target_id = excluded.target_id,
    owner_id = coalesce(a.owner_id, excluded.owner_id),
    claimed_generation = case when a.owner_id is null then current else a.claimed_generation end;
  return current;
end $$
"""

RELEASE = """
create function {schema}.brokers_group_release(g bigint, m bigint) returns int[] language plpgsql as $$
declare current bigint; released int[];
begin   -- lets go of what the member owns and another shall have: that one owns it from here on
  current := {schema}.brokers_group_lock(g);
  with passed as (
    update {schema}.brokers_group_assignment set owner_id = target_id, position = null, claimed_generation = current
    where group_id = g and owner_id = m and target_id is distinct from m returning partition_id)
  select array_agg(partition_id) into released from passed;
  return released;
end $$
"""

UNDIVIDED = """
create function {schema}.brokers_group_undivided(g bigint) returns boolean language sql volatile as $$
  -- whether sessions are over, or partitions of the subscribed topics came or went
  select exists (select from {schema}.brokers_group_member x where x.group_id = g and x.ended_at is null
      and {schema}.brokers_member_overdue(x.heartbeat_at, x.session_timeout_ms, x.polled_at, x.max_poll_interval_ms)
        is not null)
    or exists (select from {schema}.brokers_topic t join {schema}.brokers_partition p on p.topic_id = t.id
      where t.name in (select unnest(x.topics) from {schema}.brokers_group_member x
        where x.group_id = g and x.ended_at is null)
      and not exists (select from {schema}.brokers_group_assignment a where a.group_id = g and a.partition_id = p.id))
    or exists (select from {schema}.brokers_group_assignment a where a.group_id = g
      and not exists (select from {schema}.brokers_partition p where p.id = a.partition_id))
$$
"""

POLL = """
create function {schema}.brokers_group_poll(wanted_group text, wanted_member text,
    progress boolean, entering boolean, relaxed boolean)
  returns table (status text, group_id bigint, member bigint, generation bigint, heard bigint, paused boolean,
    reset text, pace_ms int, subscribed text[], partition_ids int[], topics text[], numbers int[], claims bigint[],
    positions bigint[], committed bigint[], starts bigint[], earliest bigint[], latest bigint[], awaited int[],
    released int[])
language plpgsql as $$
#variable_conflict use_column
declare m {schema}.brokers_group_member; current bigint; moment timestamptz;
begin
  select x.* into m from {schema}.brokers_group_member x join {schema}.brokers_consumer_group g on g.id = x.group_id
    where x.member_id = wanted_member and g.name = wanted_group;
  if not found or m.ended_at is not null then
    status := 'unknown_member';
    return next;
    return;
  end if;
  group_id := m.group_id;
  if {schema}.brokers_group_undivided(m.group_id) then
    status := 'undivided';
    return next;
    return;
  end if;
  if exists (select from {schema}.brokers_group_assignment a
      where a.owner_id = m.id and a.target_id is distinct from m.id) then
    released := {schema}.brokers_group_release(m.group_id, m.id);
  elsif relaxed then   -- a heartbeat that a crash of the server loses is as one never sent
    perform set_config('synchronous_commit', 'off', true);
  end if;
  -- generation and assignment in one statement, and so of one moment
  select (select g.generation from {schema}.brokers_consumer_group g where g.id = m.group_id),
      (select g.paused from {schema}.brokers_consumer_group g where g.id = m.group_id),
      array(select w.partition_id from {schema}.brokers_group_assignment w
        where w.group_id = m.group_id and w.target_id = m.id and w.owner_id <> w.target_id),
      array_agg(o.partition_id), array_agg(o.name::text), array_agg(o.number), array_agg(o.claimed_generation),
      array_agg(o.position), array_agg(o.committed_offset), array_agg(o.start_offset), array_agg(o.earliest_offset),
      array_agg(case when progress then {schema}.brokers_log_latest(o.partition_id) else 0 end)
    into current, paused, awaited, partition_ids, topics, numbers, claims, positions, committed, starts, earliest, latest
    from (select a.*, t.name, p.number, p.earliest_offset, c.committed_offset
      from {schema}.brokers_group_assignment a
      join {schema}.brokers_partition p on p.id = a.partition_id
      join {schema}.brokers_topic t on t.id = p.topic_id
      left join {schema}.brokers_committed_offset c on c.group_id = a.group_id and c.partition_id = a.partition_id
      where a.owner_id = m.id and a.target_id = m.id
      order by a.served_at nulls first, a.partition_id) o;
  moment := clock_timestamp();
  if entering or m.generation <> current
    or m.heartbeat_at < moment - least(m.session_timeout_ms, m.max_poll_interval_ms) * interval '0.1 millisecond'
  then
    update {schema}.brokers_group_member x set heartbeat_at = moment, generation = current,
        polled_at = case when progress then moment else x.polled_at end
      where x.id = m.id and x.ended_at is null;
  end if;
  status := 'polled';
  member := m.id;
  generation := current;
  heard := m.generation;
  reset := m.auto_offset_reset;
  pace_ms := least(m.session_timeout_ms, m.max_poll_interval_ms) / 3;
  subscribed := m.topics;
  return next;
end $$
"""

FETCH = """
create function {schema}.brokers_group_fetch(partitions int[], starts bigint[], max_records int, max_bytes bigint)
  returns table (partition_id int, base_offset bigint, offset_span int, base_ts bigint, codec smallint, payload bytea)
language plpgsql stable as $$
#variable_conflict use_column
declare r record; records bigint := 0; bytes bigint := 0;
begin   -- partition after partition in the order given, until there are enough records or bytes
  for i in 1 .. cardinality(partitions) loop
    -- retention may have cut in since the positions were looked up; then its reset policy comes first
    continue when starts[i] < (select p.earliest_offset from {schema}.brokers_partition p where p.id = partitions[i]);
    for r in select * from {schema}.brokers_log_fetch(
        partitions[i], starts[i], (max_records - records)::int, max_bytes - bytes) loop
      partition_id := partitions[i];
      base_offset := r.base_offset; offset_span := r.offset_span; base_ts := r.base_ts;
      codec := r.codec; payload := r.payload;
      return next;
      records := records + r.offset_span - greatest(starts[i] - r.base_offset, 0);
      bytes := bytes + octet_length(r.payload);
    end loop;
    exit when records >= max_records or bytes >= max_bytes;
  end loop;
end $$
"""

ADVANCE = """
create function {schema}.brokers_group_advance(g bigint, m bigint, partitions int[], claims bigint[],
    olds bigint[], news bigint[], starts bigint[], served boolean[], waited boolean, relaxed boolean)
  returns int[] language plpgsql as $$
declare moved int[] := '{{}}';
begin   -- partitions in ascending order; answers those whose position was still the one that was read from
  if relaxed then   -- a position that a crash of the server loses is read again
    perform set_config('synchronous_commit', 'off', true);
  end if;
  for i in 1 .. cardinality(partitions) loop
    update {schema}.brokers_group_assignment set position = news[i], start_offset = coalesce(start_offset, starts[i]),
        served_at = case when served[i] then clock_timestamp() else served_at end
      where group_id = g and partition_id = partitions[i] and owner_id = m and claimed_generation = claims[i]
        and position is not distinct from olds[i];
    if found then
      moved := moved || partitions[i];
    end if;
  end loop;
  if waited then
    update {schema}.brokers_group_member set heartbeat_at = clock_timestamp(), polled_at = clock_timestamp()
      where id = m and ended_at is null;
  end if;
  return moved;
end $$
"""

COMMIT = """
create function {schema}.brokers_group_commit(wanted_group text, wanted_member text, wanted_generation bigint,
    topics text[], numbers int[], offsets bigint[])
  returns table (status text, at int, fact bigint) language plpgsql as $$
#variable_conflict use_column
declare g bigint; current bigint; m bigint; heard bigint; ended timestamptz; ids int[]; positions bigint[];
begin   -- one row: how it went, and for which of the offsets (from 1) it did not
  select id into g from {schema}.brokers_consumer_group where name = wanted_group;
  perform pg_advisory_xact_lock_shared(1463900487, (g % 2147483647)::int);
  select generation into current from {schema}.brokers_consumer_group where id = g for share;
  select id, generation, ended_at into m, heard, ended from {schema}.brokers_group_member
    where member_id = wanted_member and group_id = g;
  fact := current;
  if m is null then
    status := 'unknown_member';
  elsif ended is not null then
    status := 'ended';
  elsif coalesce(wanted_generation, heard) <> current then
    status := 'stale';
  end if;
  if status is not null then
    return next;
    return;
  end if;
  select array_agg(a.partition_id order by x.ordinality), array_agg(a.position order by x.ordinality),
      min(x.ordinality) filter (where a.partition_id is null) into ids, positions, at
    from unnest(topics, numbers) with ordinality as x (topic, number, ordinality)
    left join {schema}.brokers_topic t on t.name = x.topic
    left join {schema}.brokers_partition p on p.topic_id = t.id and p.number = x.number
    left join {schema}.brokers_group_assignment a on a.group_id = g and a.partition_id = p.id and a.owner_id = m;
  if at is not null then
    status := 'not_owned';
    return next;
    return;
  end if;
  for i in 1 .. cardinality(ids) loop
    if offsets[i] > coalesce(positions[i], -1) and offsets[i] > {schema}.brokers_log_latest(ids[i]) then
      status := 'beyond';
      at := i;
      fact := {schema}.brokers_log_latest(ids[i]);
      return next;
      return;
    end if;
  end loop;
  insert into {schema}.brokers_committed_offset as c (group_id, partition_id, committed_offset, committed_at)
    select g, x.partition_id, x.committed_offset, clock_timestamp()
    from unnest(ids, offsets) as x (partition_id, committed_offset) order by x.partition_id
  on conflict (group_id, partition_id) do update
    set committed_offset = excluded.committed_offset, committed_at = excluded.committed_at;
  status := 'committed';
  return next;
end $$
"""

MOVE = """
create function {schema}.brokers_group_move(g bigint, partitions int[], offsets bigint[]) returns bigint
language plpgsql as $$
declare current bigint;
begin   -- under the lock: commits offsets for the group, in a new generation; what was polled before is void
  update {schema}.brokers_consumer_group set generation = generation + 1 where id = g returning generation into current;
  update {schema}.brokers_group_assignment set position = null, claimed_generation = current
    where group_id = g and partition_id = any(partitions);
  insert into {schema}.brokers_committed_offset (group_id, partition_id, committed_offset, committed_at)
    select g, x.partition_id, x.committed_offset, clock_timestamp()
    from unnest(partitions, offsets) as x (partition_id, committed_offset)
  on conflict (group_id, partition_id) do update
    set committed_offset = excluded.committed_offset, committed_at = excluded.committed_at;
  return current;
end $$
"""

FORWARD = [
    STORAGE,
    LOCK,
    OPEN,
    OVERDUE,
    END,
    DIVIDE,
    RELEASE,
    UNDIVIDED,
    POLL,
    FETCH,
    ADVANCE,
    COMMIT,
    MOVE,
]

REVERSE = [
    "drop function {schema}.brokers_group_move(bigint, int[], bigint[])",
    "drop function {schema}.brokers_group_commit(text, text, bigint, text[], int[], bigint[])",
    "drop function {schema}.brokers_group_advance",
    "drop function {schema}.brokers_group_fetch(int[], bigint[], int, bigint)",
    "drop function {schema}.brokers_group_poll(text, text, boolean, boolean, boolean)",
    "drop function {schema}.brokers_group_undivided(bigint)",
    "drop function {schema}.brokers_group_release(bigint, bigint)",
    "drop function {schema}.brokers_group_divide(bigint, int[], bigint[])",
    "drop function {schema}.brokers_group_end(bigint, bigint)",
    "drop function {schema}.brokers_member_overdue(timestamptz, int, timestamptz, int)",
    "drop function {schema}.brokers_group_open(text)",
    "drop function {schema}.brokers_group_lock(bigint)",
]
