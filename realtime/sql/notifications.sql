-- name: store  a notification under its user's next number, whose row stays locked until the commit; drops the oldest
with inbox as (
  insert into realtime_inbox as i (user_name, last_number) values (%(user)s::text, 1)
  on conflict (user_name) do update set last_number = i.last_number + 1
  returning id, last_number
), stored as (
  insert into realtime_notification (inbox_id, number, kind, payload)
  select id, last_number, %(kind)s::text, %(payload)s::text from inbox
), dropped as (
  delete from realtime_notification n using inbox
  where n.inbox_id = inbox.id and n.number <= inbox.last_number - %(kept)s::bigint
)
select id, last_number from inbox

-- name: open_inbox  the inbox of a user, made when there is none, with the bounds of what it keeps
with made as (
  insert into realtime_inbox (user_name) values (%(user)s::text) on conflict (user_name) do nothing
  returning id, last_number
), inbox as (
  select id, last_number from made
  union all
  select id, last_number from realtime_inbox where user_name = %(user)s::text
  limit 1
)
select id, last_number,
  coalesce((select n.number from realtime_notification n where n.inbox_id = inbox.id order by n.number limit 1),
    last_number + 1)
from inbox

-- name: after  notifications of an inbox after a number, oldest first
select number, kind, payload, created_at from realtime_notification
where inbox_id = %(inbox)s::integer and number > %(number)s::bigint
order by number limit %(limit)s::integer

-- name: numbers  the last number of each of these inboxes
select id, last_number from realtime_inbox where id = any(%s::integer[])
