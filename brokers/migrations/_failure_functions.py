"""The stored functions that keep counters of failure groups and replays, as migration 0006 installs them.

A counter is never changed by who fails or replays: each statement adds one row for each failure group, or replay, that
it touched, and housekeeping folds those rows. So counters are right after any crash, nobody waits for a counter's
row, and no reader scans dead letters. What is not folded yet is added by the readers.
"""

STORAGE = """
alter table {schema}.brokers_failure_change
  set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
alter table {schema}.brokers_replay_change
  set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
alter table {schema}.brokers_redelivery
  set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
alter table {schema}.brokers_delivery_attempt
  set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0)
"""

LETTER_INSERTED = """
create function {schema}.brokers_dead_letter_inserted() returns trigger language plpgsql as $$
begin
  insert into {schema}.brokers_failure_change (failure_group_id, state, change, failures, newest_id, at)
    select failure_group_id, state, count(*), count(*), max(id), max(failed_at)
    from added group by failure_group_id, state;
  return null;
end $$
"""

LETTER_UPDATED = """
create function {schema}.brokers_dead_letter_updated() returns trigger language plpgsql as $$
begin
  insert into {schema}.brokers_failure_change (failure_group_id, state, change, failures, newest_id, at)
    select x.failure_group_id, x.state, sum(x.change), sum(x.failures), max(x.newest_id), max(x.failed_at)
    from (
      select o.failure_group_id, o.state, -1 as change, 0 as failures, null::bigint as newest_id, o.failed_at
        from was o join now_is n on n.id = o.id
        where (n.failure_group_id, n.state) is distinct from (o.failure_group_id, o.state)
      union all
      select n.failure_group_id, n.state,
          ((n.failure_group_id, n.state) is distinct from (o.failure_group_id, o.state))::int,
          (n.failed_at is distinct from o.failed_at)::int,
          case when n.failed_at is distinct from o.failed_at then n.id end, n.failed_at
        from was o join now_is n on n.id = o.id
        where (n.failure_group_id, n.state, n.failed_at) is distinct from (o.failure_group_id, o.state, o.failed_at)
    ) x group by x.failure_group_id, x.state;
  return null;
end $$
"""

LETTER_DELETED = """
create function {schema}.brokers_dead_letter_deleted() returns trigger language plpgsql as $$
begin
  insert into {schema}.brokers_failure_change (failure_group_id, state, change, failures, newest_id, at)
    select failure_group_id, state, -count(*), 0, null, max(failed_at) from gone group by failure_group_id, state;
  return null;
end $$
"""

LETTER_TRIGGERS = """
create trigger brokers_dead_letter_inserted after insert on {schema}.brokers_dead_letter
  referencing new table as added for each statement execute function {schema}.brokers_dead_letter_inserted();
create trigger brokers_dead_letter_updated after update on {schema}.brokers_dead_letter
  referencing old table as was new table as now_is
  for each statement execute function {schema}.brokers_dead_letter_updated();
create trigger brokers_dead_letter_deleted after delete on {schema}.brokers_dead_letter
  referencing old table as gone for each statement execute function {schema}.brokers_dead_letter_deleted()
"""

ITEM_INSERTED = """
create function {schema}.brokers_replay_item_inserted() returns trigger language plpgsql as $$
begin
  insert into {schema}.brokers_replay_change (replay_id, sent, succeeded, failed_again, skipped)
    select replay_id, count(sent_at), count(*) filter (where outcome = 'succeeded'),
      count(*) filter (where outcome = 'failed_again'), count(*) filter (where outcome = 'skipped')
    from added group by replay_id
    having count(sent_at) > 0 or count(*) filter (where outcome <> 'waiting') > 0;
  return null;
end $$
"""

ITEM_UPDATED = """
create function {schema}.brokers_replay_item_updated() returns trigger language plpgsql as $$
begin
  insert into {schema}.brokers_replay_change (replay_id, sent, succeeded, failed_again, skipped)
    select n.replay_id, count(n.sent_at) - count(o.sent_at),
      count(*) filter (where n.outcome = 'succeeded') - count(*) filter (where o.outcome = 'succeeded'),
      count(*) filter (where n.outcome = 'failed_again') - count(*) filter (where o.outcome = 'failed_again'),
      count(*) filter (where n.outcome = 'skipped') - count(*) filter (where o.outcome = 'skipped')
    from was o join now_is n on n.id = o.id
    where n.outcome <> o.outcome or (n.sent_at is null) <> (o.sent_at is null)
    group by n.replay_id;
  return null;
end $$
"""

ITEM_TRIGGERS = """
create trigger brokers_replay_item_inserted after insert on {schema}.brokers_replay_item
  referencing new table as added for each statement execute function {schema}.brokers_replay_item_inserted();
create trigger brokers_replay_item_updated after update on {schema}.brokers_replay_item
  referencing old table as was new table as now_is
  for each statement execute function {schema}.brokers_replay_item_updated()
"""

FORWARD = [
    STORAGE,
    LETTER_INSERTED,
    LETTER_UPDATED,
    LETTER_DELETED,
    LETTER_TRIGGERS,
    ITEM_INSERTED,
    ITEM_UPDATED,
    ITEM_TRIGGERS,
]

REVERSE = [
    "drop trigger brokers_replay_item_updated on {schema}.brokers_replay_item",
    "drop trigger brokers_replay_item_inserted on {schema}.brokers_replay_item",
    "drop function {schema}.brokers_replay_item_updated()",
    "drop function {schema}.brokers_replay_item_inserted()",
    "drop trigger brokers_dead_letter_deleted on {schema}.brokers_dead_letter",
    "drop trigger brokers_dead_letter_updated on {schema}.brokers_dead_letter",
    "drop trigger brokers_dead_letter_inserted on {schema}.brokers_dead_letter",
    "drop function {schema}.brokers_dead_letter_deleted()",
    "drop function {schema}.brokers_dead_letter_updated()",
    "drop function {schema}.brokers_dead_letter_inserted()",
]
