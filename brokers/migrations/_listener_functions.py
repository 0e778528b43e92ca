"""What listeners add to the stored functions of consumer groups, as migration 0007 installs them.

A listener (a member with an instance id) that ends without having left makes its partitions `careful`: whoever reads
them next does so one record at a time. Its backend is ended too: a process that was stopped, or hangs in its handler,
must not keep the locks of a transaction that can never be committed from the new owner of its partitions.
"""

from brokers.migrations import _group_functions

SILENCE = """
create function {schema}.brokers_group_silence(members text[]) returns void language plpgsql as $$
begin   -- ends the connections of listeners by the name that each gave to its own
  perform pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and usename = current_user and pid <> pg_backend_pid()
      and application_name in (select 'waystation-' || x from unnest(members) x);
end $$
"""

END = """
create or replace function {schema}.brokers_group_end(g bigint, leaver bigint) returns int language plpgsql as $$
declare ended bigint[]; lost bigint[]; names text[];
begin   -- under the lock: ends the session of one that leaves, or of all that are overdue; its partitions are free
  with closed as (
    update {schema}.brokers_group_member set ended_at = clock_timestamp(),
      end_reason = case when id = leaver then 'left' else {schema}.brokers_member_overdue(
        heartbeat_at, session_timeout_ms, polled_at, max_poll_interval_ms) end
    where group_id = g and ended_at is null and (id = leaver or {schema}.brokers_member_overdue(
      heartbeat_at, session_timeout_ms, polled_at, max_poll_interval_ms) is not null)
    returning id, member_id, instance_id)
  select array_agg(id), coalesce(array_agg(id) filter (where id <> leaver and instance_id is not null), '{{}}'),
      array_agg(member_id) filter (where id <> leaver) into ended, lost, names from closed;
  if ended is null then
    return 0;
  end if;
  update {schema}.brokers_group_assignment set owner_id = null, position = null, careful = careful or owner_id = any(lost)
    where group_id = g and owner_id = any(ended);
  if names is not null then
    perform {schema}.brokers_group_silence(names);
  end if;
  return cardinality(ended);
end $$
"""

REPLACE = """
create function {schema}.brokers_group_replace(g bigint, instance text)
  returns table (former bigint, former_topics text[]) language plpgsql as $$
begin   -- under the lock: ends the live member of that instance id; one row if there was one
  return query
    update {schema}.brokers_group_member set ended_at = clock_timestamp(), end_reason = 'replaced'
    where group_id = g and instance_id = instance and ended_at is null returning id, topics::text[];
end $$
"""

INHERIT = """
create function {schema}.brokers_group_inherit(g bigint, former bigint, heir bigint) returns bigint language plpgsql as $$
declare current bigint;
begin   -- under the lock: what a member owned or was to get is its successor's, without a new division
  update {schema}.brokers_group_assignment set careful = careful or owner_id = former,
      position = case when owner_id = former then null else position end,
      owner_id = case when owner_id = former then heir else owner_id end,
      target_id = case when target_id = former then heir else target_id end
    where group_id = g and (owner_id = former or target_id = former);
  perform {schema}.brokers_group_silence(array(
    select member_id::text from {schema}.brokers_group_member where id = former));
  select generation into strict current from {schema}.brokers_consumer_group where id = g;
  return current;
end $$
"""

SETTLE = """
create function {schema}.brokers_group_settle(
    g bigint, m bigint, p int, claim bigint, settled bigint, cleared boolean, relaxed boolean)
  returns table (generation bigint, paused boolean) language plpgsql as $$
#variable_conflict use_column
begin   -- last in a listener's transaction: commits its offset (null: none) if its claim to the partition still holds
  if relaxed then   -- an offset alone: if a crash of the server loses it, records without effects here come again
    perform set_config('synchronous_commit', 'off', true);
  end if;
  perform pg_advisory_xact_lock_shared(1463900487, (g % 2147483647)::int);
  select x.generation, x.paused into generation, paused from {schema}.brokers_consumer_group x where x.id = g for share;
  if not exists (select from {schema}.brokers_group_assignment a join {schema}.brokers_group_member o on o.id = a.owner_id
      where a.group_id = g and a.partition_id = p and a.owner_id = m and a.claimed_generation = claim
        and o.ended_at is null) then
    raise exception 'partition % of group % is not claimed by member % any more', p, g, m using errcode = 'WS409';
  end if;
  if settled is not null then
    update {schema}.brokers_committed_offset set committed_offset = settled, committed_at = clock_timestamp()
      where group_id = g and partition_id = p;
    if not found then
      insert into {schema}.brokers_committed_offset (group_id, partition_id, committed_offset, committed_at)
        values (g, p, settled, clock_timestamp());
    end if;
  end if;
  if cleared then
    update {schema}.brokers_group_assignment set careful = false where group_id = g and partition_id = p;
  end if;
  return next;
end $$
"""

_KEEP = """
  delete from {schema}.brokers_group_assignment a where a.group_id = g and a.partition_id <> all(partitions)
    and not (a.careful and exists (select from {schema}.brokers_partition p where p.id = a.partition_id));
  update {schema}.brokers_group_assignment   -- who reads it next, be it after a while without members, reads with care
    set owner_id = null, target_id = null, position = null, start_offset = null
    where group_id = g and partition_id <> all(partitions);
"""
_FORGET = """
  delete from {schema}.brokers_group_assignment where group_id = g and partition_id <> all(partitions);
"""
DIVIDE = _group_functions.DIVIDE.replace("create function", "create or replace function", 1).replace(_FORGET, _KEEP, 1)

FORWARD = [SILENCE, END, DIVIDE, REPLACE, INHERIT, SETTLE]

REVERSE = [
    "drop function {schema}.brokers_group_settle(bigint, bigint, int, bigint, bigint, boolean, boolean)",
    "drop function {schema}.brokers_group_inherit(bigint, bigint, bigint)",
    "drop function {schema}.brokers_group_replace(bigint, text)",
    _group_functions.DIVIDE.replace("create function", "create or replace function", 1),
    _group_functions.END.replace("create function", "create or replace function", 1),
    "drop function {schema}.brokers_group_silence(text[])",
]
