-- name: create  a ticket
insert into realtime_stream_ticket (digest, token_id, expires_at)
values (%(digest)s::bytea, %(token)s::text, now() + make_interval(secs => %(seconds)s::double precision))

-- name: take  uses a ticket up, and says whose it was
delete from realtime_stream_ticket where digest = %s::bytea returning token_id, expires_at > now()

-- name: digest_of_token  what access looks a token up by
select secret_sha256 from brokers_api_token where token_id = %s::text and revoked_at is null
