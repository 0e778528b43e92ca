-- name: principal  the live token with this digest, with its grants; notes the use once a minute
with found as (
  select t.id, t.token_id, t.name, t.owner_id, t.superuser, t.expires_at, u.username
  from brokers_api_token t join auth_user u on u.id = t.owner_id
  where t.secret_sha256 = %b::bytea and t.revoked_at is null and u.is_active
    and (t.expires_at is null or t.expires_at > now())
), used as (
  update brokers_api_token t set last_used_at = now() from found
  where t.id = found.id and (t.last_used_at is null or t.last_used_at < now() - interval '1 minute')
)
select found.token_id, found.username || '/' || found.name, found.owner_id, found.superuser, found.expires_at,
  coalesce((select json_agg(json_build_array(g.operation, g.resource_type, g.name, g.match, g.effect) order by g.id)
    from brokers_grant g where g.token_id = found.id), '[]'::json)
from found

-- name: principals  the live ones among the tokens with these digests, with their grants
select t.secret_sha256, t.token_id, u.username || '/' || t.name, t.owner_id, t.superuser, t.expires_at,
  coalesce((select json_agg(json_build_array(g.operation, g.resource_type, g.name, g.match, g.effect) order by g.id)
    from brokers_grant g where g.token_id = t.id), '[]'::json)
from brokers_api_token t join auth_user u on u.id = t.owner_id
where t.secret_sha256 = any(%b::bytea[]) and t.revoked_at is null and u.is_active
  and (t.expires_at is null or t.expires_at > now())
