-- name: limit_time  how long a statement of this transaction may take, in milliseconds
select set_config('statement_timeout', %s::text, true)

-- name: unresolved  what a rule's alerts are about that are not over
select scope from brokers_alert where rule_id = %s::bigint and resolved_at is null

-- name: begin  alerts for scopes at the threshold, or their new figures
insert into brokers_alert as a (rule_id, scope, value, began_at)
select %s::bigint, s, v, clock_timestamp() from unnest(%s::text[], %s::float8[]) as x (s, v) order by s
on conflict (rule_id, scope) where resolved_at is null
do update set value = excluded.value where a.value <> excluded.value

-- name: raise_lasting  raises the pending ones that lasted long enough, with a notification to each channel: how many
with raised as (
  update brokers_alert set raised_at = clock_timestamp()
  where rule_id = %(rule)s::bigint and resolved_at is null and raised_at is null and scope = any(%(over)s::text[])
    and began_at <= clock_timestamp() - %(for_seconds)s::int * interval '1 second'
  returning id, value
), told as (
  insert into brokers_alert_notification (rule_id, alert_id, event, channel, value, attempts, error)
  select %(rule)s::bigint, r.id, 'raised', c, r.value, 0, ''
  from raised r cross join unnest(%(channels)s::text[]) c order by r.id, c
)
select count(*) from raised

-- name: resolve  ends the raised ones that are below the threshold, with a notification to each channel: how many
with resolved as (
  update brokers_alert set resolved_at = clock_timestamp(), value = coalesce(
    (select v from unnest(%(below)s::text[], %(values)s::float8[]) as x (s, v) where s = scope), 0)
  where rule_id = %(rule)s::bigint and resolved_at is null and raised_at is not null and scope <> all(%(over)s::text[])
  returning id, value
), told as (
  insert into brokers_alert_notification (rule_id, alert_id, event, channel, value, attempts, error)
  select %(rule)s::bigint, r.id, 'resolved', c, r.value, 0, ''
  from resolved r cross join unnest(%(channels)s::text[]) c order by r.id, c
)
select count(*) from resolved

-- name: forget_pending  the pending ones that did not last
delete from brokers_alert
where rule_id = %s::bigint and resolved_at is null and raised_at is null and scope <> all(%s::text[])

-- name: notify_test  a test to each of a rule's channels
insert into brokers_alert_notification (rule_id, event, channel, attempts, error)
select %s::bigint, 'test', c, 0, '' from unnest(%s::text[]) c order by c

-- name: take  some of the notifications that are due, kept from others for as long as sending may take
with due as (
  select n.id from brokers_alert_notification n
  where n.delivered_at is null and n.given_up_at is null and n.due_at <= statement_timestamp()
    and n.attempts < case n.event when 'test' then 1 else %(most)s::int end
    and not exists (select from brokers_alert_notification e where e.alert_id = n.alert_id and e.channel = n.channel
      and e.id < n.id and e.delivered_at is null and e.given_up_at is null)
  order by n.due_at, n.id limit %(limit)s::int for update skip locked
), taken as (
  update brokers_alert_notification n
  set attempts = n.attempts + 1, due_at = clock_timestamp() + %(lease)s::float8 * interval '1 second'
  from due where n.id = due.id
  returning n.*
)
select t.id, t.event, t.channel, t.attempts, t.value, t.created_at, r.name, r.metric, r.severity, r.threshold,
  r.for_seconds, r.emails, r.webhook_url, r.webhook_secret, r.runbook_url, a.scope, a.began_at, a.raised_at,
  a.resolved_at
from taken t join brokers_alert_rule r on r.id = t.rule_id left join brokers_alert a on a.id = t.alert_id
order by t.id

-- name: delivered  a notification has arrived
update brokers_alert_notification set delivered_at = clock_timestamp(), error = ''
where id = %s::bigint and attempts = %s::int and given_up_at is null

-- name: failed  a notification has not arrived: tried again after so many seconds, or given up without them
update brokers_alert_notification
set error = %(error)s::text, given_up_at = case when %(delay)s::float8 is null then clock_timestamp() end,
  due_at = clock_timestamp() + coalesce(%(delay)s::float8, 0) * interval '1 second'
where id = %(id)s::bigint and attempts = %(attempts)s::int and delivered_at is null

-- name: give_up  notifications whose sender was lost in the last attempt
update brokers_alert_notification set given_up_at = clock_timestamp(), error = 'the worker was lost while it sent this'
where delivered_at is null and given_up_at is null and due_at <= statement_timestamp()
  and attempts >= case event when 'test' then 1 else %s::int end

-- name: forget_notifications  those of alerts that were resolved long ago, and tests as old, a bounded number
delete from brokers_alert_notification where id in (
  select n.id from brokers_alert a join brokers_alert_notification n on n.alert_id = a.id
  where a.resolved_at < statement_timestamp() - %(days)s::float8 * interval '1 day' limit %(many)s::int)
or id in (
  select id from brokers_alert_notification where alert_id is null
    and created_at < statement_timestamp() - %(days)s::float8 * interval '1 day' limit %(many)s::int)

-- name: forget_alerts  alerts that were resolved long ago and have no notification left, a bounded number
delete from brokers_alert where id in (
  select id from brokers_alert a where a.resolved_at < statement_timestamp() - %s::float8 * interval '1 day'
    and not exists (select from brokers_alert_notification n where n.alert_id = a.id)
  order by a.resolved_at limit %s::int)
