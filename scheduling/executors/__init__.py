"""Named thread pools for work beside a request, as Spring's `ThreadPoolTaskExecutor`, and `@background`.

`executor` is what applications declare, `background` what they decorate with, `registry` knows all of a process, `pool`
does the work: core threads first, then the queue, then threads up to the maximum, then the rejection policy.
"""
