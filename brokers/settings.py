"""The limits of the broker in one frozen place, each with its unit.

They are constants of the product rather than settings of an installation: clients may rely on them.
"""

from __future__ import annotations

from typing import Final

MAX_RECORDS_PER_REQUEST: Final = 1000
"""Records, messages or claims in one request."""
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""A request's body; checked before and while it is read."""
MAX_RECORD_BYTES: Final = 1024 * 1024
"""Default of a topic's `max_record_bytes`: key, value and headers together."""
MAX_RECORD_BYTES_LIMIT: Final = 8 * 1024 * 1024
"""The most that a topic's `max_record_bytes` may be."""
MAX_PARTITIONS: Final = 1000
"""Partitions of one topic."""
MAX_HEADERS: Final = 64
"""Headers of one record."""
MAX_HEADER_BYTES: Final = 16 * 1024
"""Names and values of one record's headers together."""
MAX_KEY_BYTES: Final = 8 * 1024
"""A record's key."""
MAX_FETCH_BYTES: Final = 8 * 1024 * 1024
"""Stored bytes read for one fetch at most, beyond the first batch."""
DEFAULT_FETCH_BYTES: Final = 1024 * 1024
"""Stored bytes read for one fetch unless the caller says otherwise."""
MAX_WAIT_MS: Final = 30_000
"""The longest that a call may be held."""
MAX_TIMESTAMP_MS: Final = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last instant that RFC 3339 can write."""
RETENTION_MS: Final = 604_800_000
"""Default of a topic's `retention_ms`: seven days."""
IDEMPOTENCY_WINDOW_MS: Final = 86_400_000
"""How long an Idempotency-Key is remembered."""
POLL_INTERVAL_SECONDS: Final = 1.0
"""How soon a waiter looks again when a wake-up was lost."""
CACHE_SECONDS: Final = 2.0
"""How long a process may go on with a topic's settings or a token's grants that another process changed."""
