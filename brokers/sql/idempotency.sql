-- name: lock  whether nobody else works under this key now
select pg_try_advisory_xact_lock(%s::bigint)

-- name: find  body digest and answer remembered for a key
select body_sha256, answer from brokers_idempotency_key
where principal = %s::text and topic_id = %s::bigint and key = %s::text
  and created_at > now() - %s::bigint * interval '1 millisecond'

-- name: remember  the answer given under a key
insert into brokers_idempotency_key (principal, topic_id, key, body_sha256, answer)
values (%s::text, %s::bigint, %s::text, %b::bytea, %b::bytea)
on conflict (principal, topic_id, key)
do update set body_sha256 = excluded.body_sha256, answer = excluded.answer, created_at = now()

-- name: purge  forgets the oldest keys past their time
delete from brokers_idempotency_key where (principal, topic_id, key) in (
  select principal, topic_id, key from brokers_idempotency_key
  where created_at < now() - %s::bigint * interval '1 millisecond' order by created_at limit %s::int)
