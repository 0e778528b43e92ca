-- name: publish  messages and their copies for queues, if the topology is the one they were routed by: their ids, or null
select brokers_queue_publish(%s::bigint, %s::int, %s::int, %s::int, %s::int[], %s::bigint[], %b::bytea[], %b::bytea[],
  %s::smallint[], %s::int[], %s::int[], %s::smallint[], %s::bigint[], %s::bigint[])

-- name: publish_one  the same for one message, whose envelope and body the driver writes quicker than arrays of one
select brokers_queue_publish(%s::bigint, %s::int, %s::int, %s::int, %s::int[], %s::bigint[], array[%b::bytea],
  array[%b::bytea], %s::smallint[], %s::int[], %s::int[], %s::smallint[], %s::bigint[], %s::bigint[])
