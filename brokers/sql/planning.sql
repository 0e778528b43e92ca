-- name: by_index  lets the rest of the transaction take what it needs in the order of an index, whatever statistics say
select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
  set_config('enable_sort', 'off', true)
