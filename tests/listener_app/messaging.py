"""The listener: writes an effect, then does what the record asks for."""

from __future__ import annotations

import os
import signal
import threading

from django.db import connection

from brokers import FixedBackOff, topic_listener
from brokers.record import Record

TOPIC = "process-topic"
GROUP = "process-group"
SESSION_MS = int(os.environ.get("LISTENER_APP_SESSION_MS", "60000"))


@topic_listener(TOPIC, group=GROUP, session_timeout_ms=SESSION_MS, max_poll_records=10, retry=FixedBackOff(0, 0))
def on_record(record: Record) -> None:
    """`kill` and `stop` are signals to the worker itself; `stop` only at the first worker that meets it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into test_effect (name, partition, record_offset) values (%s, %s, %s)",
            [record.value, record.partition, record.offset],
        )
    if record.value == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if record.value == "stop" and os.environ.get("LISTENER_APP_STOPS"):
        # By its own thread: the process's main thread would have to wake up first, and this one goes on until then.
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
