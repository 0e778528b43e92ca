"""The stored functions of the topic log, as migration 0002 installs them.

`{schema}` is the schema that holds the tables: the functions name it, because the constraint trigger runs at the
commit of any session, whatever its search path.
"""

APPEND = """
create function {schema}.brokers_log_append(p int, n int, t1 bigint, t2 bigint, c smallint, d bytea) returns bigint
language plpgsql as $$
declare b bigint; e bigint; m bigint;
begin   -- volatile: each statement takes a new snapshot, so the second one sees what the lock waited for
  select earliest_offset into strict e from {schema}.brokers_partition where id = p for no key update;
  select base_offset + offset_span, max_ts into b, m from {schema}.brokers_log_batch
    where partition_id = p and base_offset >= 0 order by base_offset desc limit 1;
  b := greatest(b, e);
  insert into {schema}.brokers_log_batch
      (partition_id, base_offset, offset_span, base_ts, last_ts, max_ts, stored_at, codec, payload)
    values (p, b, n, t1, t2, greatest(m, t2), (extract(epoch from clock_timestamp()) * 1000)::bigint, c, d);
  return b;
end $$
"""

APPEND_MANY = """
create function {schema}.brokers_log_append_many(
    p int[], n int[], t1 bigint[], t2 bigint[], c smallint[], d bytea[]) returns bigint[]
language plpgsql as $$
declare bases bigint[] := '{{}}';
begin   -- the caller gives partitions in ascending order: all locks are taken in one order everywhere
  for i in 1 .. cardinality(p) loop
    bases[i] := {schema}.brokers_log_append(p[i], n[i], t1[i], t2[i], c[i], d[i]);
  end loop;
  return bases;
end $$
"""

PENDING = """
create sequence {schema}.brokers_log_pending_seq;
create unlogged table {schema}.brokers_log_pending (   -- rows never outlive their transaction: no WAL needed
  xid xid8 not null default pg_current_xact_id(),
  seq bigint not null,
  step smallint not null default 0,                    -- 0 a batch, 1 the transaction's first batch, 2 "flush now"
  partition_id int not null default 0,
  offset_span int not null default 0,
  primary key (xid, seq))
  with (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0)
"""

STAGE = """
create function {schema}.brokers_log_stage(p int, n int, t1 bigint, t2 bigint, c smallint, d bytea) returns void
language plpgsql as $$
declare s bigint := nextval('{schema}.brokers_log_pending_seq');
begin
  insert into {schema}.brokers_log_pending (seq, step, partition_id, offset_span) values (s,
    (not exists (select from {schema}.brokers_log_pending where xid = pg_current_xact_id_if_assigned()))::int, p, n);
  insert into {schema}.brokers_log_batch
      (partition_id, base_offset, offset_span, base_ts, last_ts, max_ts, stored_at, codec, payload)
    values (p, -s, n, t1, t2, t2, 0, c, d);            -- provisional, seen by this transaction only
end $$
"""

FLUSH = """
create function {schema}.brokers_log_flush() returns trigger language plpgsql as $$
declare me xid8 := pg_current_xact_id(); r record; b bigint; e bigint; m bigint; last int := 0;
  stored bigint;
begin
  if new.step = 1 then   -- queue once more, behind the transaction's other deferred constraints
    insert into {schema}.brokers_log_pending (seq, step) values (0, 2);
    return null;
  end if;
  for r in select partition_id, seq, offset_span from {schema}.brokers_log_pending
           where xid = me and step < 2 order by partition_id, seq loop      -- all locks in one order
    if r.partition_id <> last then
      last := r.partition_id;
      select earliest_offset into strict e from {schema}.brokers_partition where id = last for no key update;
      select base_offset + offset_span, max_ts into b, m from {schema}.brokers_log_batch
        where partition_id = last and base_offset >= 0 order by base_offset desc limit 1;
      b := greatest(b, e);
      stored := (extract(epoch from clock_timestamp()) * 1000)::bigint;
    end if;
    update {schema}.brokers_log_batch set base_offset = b, max_ts = greatest(m, last_ts), stored_at = stored
      where partition_id = last and base_offset = -r.seq returning max_ts into m;
    if not found then raise exception 'staged batch % is gone', r.seq; end if;
    b := b + r.offset_span;
  end loop;
  delete from {schema}.brokers_log_pending where xid = me;
  return null;
end $$
"""

FLUSH_TRIGGER = """
create constraint trigger brokers_log_flush after insert on {schema}.brokers_log_pending
  deferrable initially deferred for each row when (new.step > 0) execute function {schema}.brokers_log_flush()
"""

FETCH = """
create function {schema}.brokers_log_fetch(p int, start bigint, max_records int, max_bytes bigint)
  returns table (base_offset bigint, offset_span int, base_ts bigint, codec smallint, payload bytea)
language plpgsql stable as $$
declare e bigint; head bigint; r record; records bigint := 0; bytes bigint := 0; size bigint;
begin   -- stable: one snapshot for all of it, so retention cannot cut in between
  select earliest_offset into e from {schema}.brokers_partition where id = p;
  select b.base_offset into head from {schema}.brokers_log_batch b
    where b.partition_id = p and b.base_offset between 0 and start order by b.base_offset desc limit 1;
  for r in select b.base_offset, b.offset_span, b.base_ts, b.codec, b.payload from {schema}.brokers_log_batch b
           where b.partition_id = p and b.base_offset >= greatest(head, e)
           order by b.base_offset limit max_records + 1 loop
    continue when r.base_offset + r.offset_span <= start;
    size := octet_length(r.payload);
    exit when records > 0 and bytes + size > max_bytes;
    base_offset := r.base_offset; offset_span := r.offset_span; base_ts := r.base_ts;
    codec := r.codec; payload := r.payload;
    return next;
    records := records + r.offset_span - greatest(start - r.base_offset, 0);
    bytes := bytes + size;
    exit when records >= max_records;
  end loop;
end $$
"""

LATEST = """
create function {schema}.brokers_log_latest(p int) returns bigint language sql stable as $$
  select greatest(e.earliest_offset, b.past) from {schema}.brokers_partition e left join lateral (
    select base_offset + offset_span as past from {schema}.brokers_log_batch
    where partition_id = p and base_offset >= 0 order by base_offset desc limit 1) b on true
  where e.id = p
$$
"""

AT_TIMESTAMP = """
create function {schema}.brokers_log_at_timestamp(p int, t bigint) returns bigint language plpgsql stable as $$
declare e bigint; low bigint; high bigint; middle bigint; base bigint; past bigint; m bigint;
begin   -- max_ts never falls from one batch to the next, so a binary search over the primary key finds the first
  select earliest_offset into strict e from {schema}.brokers_partition where id = p;
  low := e;
  high := {schema}.brokers_log_latest(p);
  while low < high loop
    middle := (low + high) / 2;
    select base_offset, base_offset + offset_span, max_ts into base, past, m from {schema}.brokers_log_batch
      where partition_id = p and base_offset between 0 and middle order by base_offset desc limit 1;
    if base is null or m < t then
      low := greatest(past, middle + 1);
    elsif base <= low then
      low := base;
      exit;
    else
      high := base;
    end if;
  end loop;
  return (select base_offset from {schema}.brokers_log_batch    -- the maximum may be older than any record kept
    where partition_id = p and base_offset >= greatest(low, e) and last_ts >= t order by base_offset limit 1);
end $$
"""

STORAGE = """
alter table {schema}.brokers_log_batch alter payload set storage external;
alter table {schema}.brokers_log_batch set (autovacuum_vacuum_scale_factor = 0.02)
"""

FORWARD = [STORAGE, APPEND, APPEND_MANY, PENDING, STAGE, FLUSH, FLUSH_TRIGGER, FETCH, LATEST, AT_TIMESTAMP]

REVERSE = [
    "drop function {schema}.brokers_log_at_timestamp(int, bigint)",
    "drop function {schema}.brokers_log_latest(int)",
    "drop function {schema}.brokers_log_fetch(int, bigint, int, bigint)",
    "drop table {schema}.brokers_log_pending",
    "drop function {schema}.brokers_log_flush()",
    "drop function {schema}.brokers_log_stage(int, int, bigint, bigint, smallint, bytea)",
    "drop sequence {schema}.brokers_log_pending_seq",
    "drop function {schema}.brokers_log_append_many(int[], int[], bigint[], bigint[], smallint[], bytea[])",
    "drop function {schema}.brokers_log_append(int, int, bigint, bigint, smallint, bytea)",
]
