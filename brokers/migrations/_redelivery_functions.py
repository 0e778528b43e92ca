"""The stored functions of the redelivery lane, as migration 0006 installs them.

A lane is empty most of the time and may hold a million rows a second later, so what PostgreSQL knows of the table is
often wrong. Each function therefore says how it is to be read: by index alone, and where a key's rows are looked up, by
an order that only one index has. What is found behind the key's last row is another key's, and is compared away.
"""

_BY_INDEX = "set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off"

DUE = """
create function {schema}.brokers_lane_due(
  p_group bigint, p_partition int, p_limit int, p_bytes bigint, p_held_back bytea[]
) returns setof {schema}.brokers_redelivery language plpgsql stable {by_index} as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  return query
    with first as materialized (
      select *, count(*) over () as firsts from (
        select r.id, r.due_at, r.key_hash from {schema}.brokers_redelivery r
        where r.group_id = p_group and r.partition_id = p_partition and not r.held and r.due_at <= v_now
          and (r.key is null or r.key <> all(p_held_back))
          and (r.key_hash is null or r.id = (
            select e.id from {schema}.brokers_redelivery e
            where (e.group_id, e.partition_id, e.key_hash, e.id) >= (r.group_id, r.partition_id, r.key_hash, 0)
              and e.key_hash is not null
            order by e.group_id, e.partition_id, e.key_hash, e.id limit 1))
        order by r.due_at, r.id limit p_limit) ready
    ), chosen as (
      select f.due_at as first_due_at, f.id as first_id, f.id from first f
      union all
      select f.due_at, f.id, n.id from first f, lateral (
        select s.id, bool_and(s.due_at <= v_now) over (order by s.id) as ready from (
          select r.id, r.due_at, r.group_id, r.partition_id, r.key_hash from {schema}.brokers_redelivery r
          where (r.group_id, r.partition_id, r.key_hash, r.id) > (p_group, p_partition, f.key_hash, f.id)
            and r.key_hash is not null and f.key_hash is not null
          order by r.group_id, r.partition_id, r.key_hash, r.id limit p_limit / f.firsts - 1) s
        where s.group_id = p_group and s.partition_id = p_partition and s.key_hash = f.key_hash) n
      where n.ready
    ), measured as (
      select c.first_due_at, c.first_id, r.id, sum(coalesce(octet_length(r.value), 0))
        over (order by c.first_due_at, c.first_id, r.id rows between unbounded preceding and 1 preceding) as before
      from chosen c, lateral (
        select x.id, x.value from {schema}.brokers_redelivery x where x.id = c.id offset 0) r
    )
    select r.* from (
      select m.id, m.first_due_at, m.first_id from measured m where m.before is null or m.before < p_bytes
      order by m.first_due_at, m.first_id, m.id limit p_limit) m,
    lateral (select x.* from {schema}.brokers_redelivery x where x.id = m.id offset 0) r
    order by m.first_due_at, m.first_id, m.id;
end $$
"""

NEXT_DUE = """
create function {schema}.brokers_lane_next_due(p_group bigint, p_partitions int[])
returns table (partition_id int, seconds float8) language plpgsql stable {by_index} as $$
begin
  return query
    select p.id, greatest(extract(epoch from r.due_at - clock_timestamp()), 0)::float8
    from unnest(p_partitions) as p (id), lateral (
      select r.due_at from {schema}.brokers_redelivery r
      where r.group_id = p_group and r.partition_id = p.id and not r.held
        and (r.key_hash is null or r.id = (
          select e.id from {schema}.brokers_redelivery e
          where (e.group_id, e.partition_id, e.key_hash, e.id) >= (r.group_id, r.partition_id, r.key_hash, 0)
            and e.key_hash is not null
          order by e.group_id, e.partition_id, e.key_hash, e.id limit 1))
      order by r.due_at, r.id limit 1) r;
end $$
"""

AHEAD = """
create function {schema}.brokers_lane_ahead(p_group bigint, p_partition int, p_key_hash bigint)
returns boolean language plpgsql {by_index} as $$
declare
  v_row record;
begin
  select e.id, e.group_id, e.partition_id, e.key_hash into v_row from {schema}.brokers_redelivery e
    where (e.group_id, e.partition_id, e.key_hash, e.id) >= (p_group, p_partition, p_key_hash, 0)
      and e.key_hash is not null
    order by e.group_id, e.partition_id, e.key_hash, e.id limit 1;
  if (v_row.group_id, v_row.partition_id, v_row.key_hash) is distinct from (p_group, p_partition, p_key_hash) then
    return false;
  end if;
  perform from {schema}.brokers_redelivery where id = v_row.id for key share skip locked;
  return found;
end $$
"""

SETTLE = """
create function {schema}.brokers_lane_settle(p_ids bigint[], p_skipped bigint[])
returns bigint language plpgsql {by_index} as $$
declare
  v_letters bigint[];
  v_items bigint[];
  v_skipped bigint[];
  v_count bigint;
begin
  with gone as (
    delete from {schema}.brokers_redelivery where id = any(p_ids) returning id, dead_letter_id, replay_item_id
  )
  select count(*), array_agg(dead_letter_id) filter (where dead_letter_id is not null),
    array_agg(replay_item_id) filter (where id <> all(p_skipped)),
    array_agg(replay_item_id) filter (where id = any(p_skipped))
    into v_count, v_letters, v_items, v_skipped from gone;
  if v_letters is not null then
    update {schema}.brokers_replay_item i set finished_at = clock_timestamp(),
      outcome = case when i.id = any(v_skipped) then 'skipped' else 'succeeded' end,
      why = case when i.id = any(v_skipped) then 'already_processed' else '' end
      where i.id = any(v_items || v_skipped) and (i.outcome = 'waiting') is true;
    update {schema}.brokers_dead_letter d set state = 'replayed', changed_at = clock_timestamp()
      where d.id = any(v_letters) and (d.state = 'replaying') is true;
  end if;
  return v_count;
end $$
"""

DELETED = """
create function {schema}.brokers_redelivery_deleted() returns trigger language plpgsql {by_index} as $$
begin
  update {schema}.brokers_redelivery r set held = false where r.held and r.id = any(array(
    select n.id from (select distinct group_id, partition_id, key_hash from gone where key_hash is not null) g,
    lateral (
      select e.id, e.group_id, e.partition_id, e.key_hash from {schema}.brokers_redelivery e
      where (e.group_id, e.partition_id, e.key_hash, e.id) >= (g.group_id, g.partition_id, g.key_hash, 0)
        and e.key_hash is not null
      order by e.group_id, e.partition_id, e.key_hash, e.id limit 1) n
    where n.group_id = g.group_id and n.partition_id = g.partition_id and n.key_hash = g.key_hash));
  return null;
end $$
"""

DELETED_TRIGGER = """
create trigger brokers_redelivery_deleted after delete on {schema}.brokers_redelivery
  referencing old table as gone for each statement execute function {schema}.brokers_redelivery_deleted()
"""

FORWARD = [
    statement.replace("{by_index}", _BY_INDEX) for statement in (DUE, NEXT_DUE, AHEAD, SETTLE, DELETED, DELETED_TRIGGER)
]

REVERSE = [
    "drop trigger brokers_redelivery_deleted on {schema}.brokers_redelivery",
    "drop function {schema}.brokers_redelivery_deleted()",
    "drop function {schema}.brokers_lane_settle(bigint[], bigint[])",
    "drop function {schema}.brokers_lane_ahead(bigint, int, bigint)",
    "drop function {schema}.brokers_lane_next_due(bigint, int[])",
    "drop function {schema}.brokers_lane_due(bigint, int, int, bigint, bytea[])",
]
