-- name: notifications  forgets some that are older than so many days, the oldest first
delete from realtime_notification where (inbox_id, number) in (
  select inbox_id, number from realtime_notification
  where created_at < now() - make_interval(days => %(days)s::integer)
  order by created_at limit %(limit)s::integer for update skip locked
)

-- name: tasks  forgets some that nothing was heard of for so many days
delete from realtime_progress where id in (
  select id from realtime_progress where updated_at < now() - make_interval(days => %(days)s::integer)
  order by updated_at limit %(limit)s::integer for update skip locked
)

-- name: tickets  forgets some that nobody used in time
delete from realtime_stream_ticket where digest in (
  select digest from realtime_stream_ticket where expires_at < now()
  order by expires_at limit %(limit)s::integer for update skip locked
)
