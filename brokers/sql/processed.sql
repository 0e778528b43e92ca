-- name: claim  notes keys as processed by a consumer, in one order whoever claims: those that were new
insert into processed_messages (consumer, message_key)
select %s::text, k from unnest(%s::text[]) k order by k collate "C"
on conflict do nothing returning message_key

-- name: release  takes back keys that this transaction claimed
delete from processed_messages where consumer = %s::text and message_key = any(%s::text[])

-- name: purge  forgets a bounded number of the oldest keys past their time
delete from processed_messages where (consumer, message_key) in (
  select consumer, message_key from processed_messages
  where processed_at < statement_timestamp() - %s::float8 * interval '1 day' order by processed_at limit %s::int)
