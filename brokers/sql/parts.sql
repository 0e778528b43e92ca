-- name: health  age of the oldest transaction in seconds, prepared transactions, committed provisional batches
select
  coalesce((select extract(epoch from clock_timestamp() - min(xact_start)) from pg_stat_activity
    where backend_type = 'client backend' and pid <> pg_backend_pid()), 0)::float8,
  (select count(*) from pg_prepared_xacts),
  (select count(*) from (select 1 from brokers_log_pending limit 100) stranded)
