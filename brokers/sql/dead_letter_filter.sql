-- name: failure_groups  failure groups that fit; a side that is null is open
select f.id from brokers_failure_group f
where (%(kind)s::text is null or f.source_kind = %(kind)s::text)
  and (%(source)s::text is null or f.source = %(source)s::text)
  and (%(group)s::text is null or f.group_name = %(group)s::text)
  and (%(fingerprint)s::text is null or f.fingerprint = %(fingerprint)s::text)
  and (%(consumers)s::text[] is null
    or f.source_kind || '/' || f.source || '/' || f.group_name = any(%(consumers)s::text[]))
limit %(limit)s::int

-- name: consumers  whose failures they are, of failure groups that fit
select distinct f.source_kind, f.source, f.group_name from brokers_failure_group f
where (%(kind)s::text is null or f.source_kind = %(kind)s::text)
  and (%(source)s::text is null or f.source = %(source)s::text)
  and (%(group)s::text is null or f.group_name = %(group)s::text)
  and (%(fingerprint)s::text is null or f.fingerprint = %(fingerprint)s::text)
  and (%(consumers)s::text[] is null
    or f.source_kind || '/' || f.source || '/' || f.group_name = any(%(consumers)s::text[]))

-- name: limit_time  the time that a statement may take from now on in this transaction; what it was
select current_setting('statement_timeout'), set_config('statement_timeout', %s::text, true)

-- name: set_time  the same, back to what it was
select set_config('statement_timeout', %s::text, true)
