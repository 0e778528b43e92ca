-- Whether something has changed since the last look, for the console's live updates; nothing is locked.
-- A ledger's sequence moves before a commit and its newest row shows after it, so both are part of a mark. Rows that are
-- folded between two looks are counted elsewhere by then, which moves the mark too.

-- name: marks  topics, groups, queues, dead letters, replays and alerts: a text each, another one after a change
select
  (select concat_ws(' ', count(*), sum(counted_offset), sum(cleaned_offset)) from brokers_partition_count),
  concat_ws(' ',
    (select concat_ws(' ', count(*), sum(generation), count(*) filter (where paused)) from brokers_consumer_group),
    (select concat_ws(' ', count(*), sum(committed_offset)) from brokers_committed_offset)),
  concat_ws(' ', (select last_value from brokers_queue_change_id_seq), (select max(id) from brokers_queue_change)),
  concat_ws(' ', (select last_value from brokers_failure_change_id_seq), (select max(id) from brokers_failure_change)),
  concat_ws(' ', (select last_value from brokers_replay_change_id_seq), (select max(id) from brokers_replay_change),
    (select string_agg(id::text || state, ' ' order by id) from brokers_replay where finished_at is null)),
  (select concat_ws(' ', count(*), count(raised_at), max(id), sum(value)) from brokers_alert where resolved_at is null)
