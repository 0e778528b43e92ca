-- name: page  failure groups with what the ledger adds to their counters, newest failure first
with fresh as (
  select failure_group_id,
    coalesce(sum(change) filter (where state = 'open'), 0) as open,
    coalesce(sum(change) filter (where state = 'replaying'), 0) as replaying,
    coalesce(sum(change) filter (where state = 'replayed'), 0) as replayed,
    coalesce(sum(change) filter (where state = 'resolved'), 0) as resolved,
    coalesce(sum(change) filter (where state = 'discarded'), 0) as discarded,
    sum(failures) as failures, max(at) filter (where failures > 0) as at, max(newest_id) as newest_id
  from brokers_failure_change group by failure_group_id
), counted as (
  select f.*, greatest(f.last_failed_at, n.at) as newest_at, greatest(f.sample_id, n.newest_id) as newest_id,
    f.failures + coalesce(n.failures, 0) as failed, f.open_count + coalesce(n.open, 0) as open,
    f.replaying_count + coalesce(n.replaying, 0) as replaying, f.replayed_count + coalesce(n.replayed, 0) as replayed,
    f.resolved_count + coalesce(n.resolved, 0) as resolved, f.discarded_count + coalesce(n.discarded, 0) as discarded
  from brokers_failure_group f left join fresh n on n.failure_group_id = f.id
  where (%(kind)s::text is null or f.source_kind = %(kind)s::text)
    and (%(source)s::text is null or f.source = %(source)s::text)
    and (%(group)s::text is null or f.group_name = %(group)s::text)
    and (%(fingerprint)s::text is null or f.fingerprint = %(fingerprint)s::text)
    and (%(consumers)s::text[] is null
      or f.source_kind || '/' || f.source || '/' || f.group_name = any(%(consumers)s::text[]))
    and (%(pattern)s::text is null or f.handler ilike %(pattern)s::text
      or f.exception_class ilike %(pattern)s::text or f.message ilike %(pattern)s::text)
), listed as (
  select * from counted
  where (%(since)s::timestamptz is null or newest_at >= %(since)s::timestamptz)
    and (%(until)s::timestamptz is null or newest_at < %(until)s::timestamptz)
    and (%(before)s::timestamptz is null
      or (newest_at, id) < (%(before)s::timestamptz, %(before_id)s::bigint))
    and case %(state)s::text when 'open' then open when 'replaying' then replaying when 'replayed' then replayed
      when 'resolved' then resolved when 'discarded' then discarded else 1 end > 0
  order by newest_at desc, id desc limit %(limit)s::int
)
select id, fingerprint, version, source_kind, source, group_name, handler, exception_class, frame, message, reason,
  first_failed_at, newest_at, failed::bigint, open::bigint, replaying::bigint, replayed::bigint, resolved::bigint,
  discarded::bigint, coalesce(
    (select d.id from brokers_dead_letter d where d.id = l.newest_id and d.failure_group_id = l.id),
    (select d.id from unnest(array['open', 'replaying', 'replayed', 'resolved', 'discarded']) s,
      lateral (select x.id, x.failed_at from brokers_dead_letter x where x.failure_group_id = l.id and x.state = s
        order by x.failed_at desc, x.id desc limit 1) d
      order by d.failed_at desc, d.id desc limit 1))
from listed l order by newest_at desc, id desc

-- name: hours  failures of failure groups by how many hours ago they were, the ledger's added
select failure_group_id, ago, sum(failures)::bigint from (
  select failure_group_id, floor(extract(epoch from clock_timestamp() - minute) / 3600)::int as ago, failures
  from brokers_failure_minute
  where failure_group_id = any(%s::bigint[]) and minute > clock_timestamp() - %s::int * interval '1 hour'
  union all
  select failure_group_id, floor(extract(epoch from clock_timestamp() - at) / 3600)::int, failures
  from brokers_failure_change
  where failure_group_id = any(%s::bigint[]) and failures > 0 and at > clock_timestamp() - %s::int * interval '1 hour'
) x group by 1, 2
