"""What live push counts, by Prometheus names.

| name | kind | labels | meaning |
| --- | --- | --- | --- |
| waystation_connections | gauge | protocol | live connections open now |
| waystation_connections_opened_total | counter | protocol | live connections opened |
| waystation_deliveries_total | counter | | messages delivered to subscribers |
| waystation_live_messages_received_total | counter | | messages received from live connections |
| waystation_slow_consumers_total | counter | | connections ended because they did not read |

A delivery costs a few microseconds, of which a counter of the library would be a tenth: deliveries are counted in plain
integers, and `flush` adds them up each second.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge

connections = Gauge("waystation_connections", "Live connections open now", ["protocol"], multiprocess_mode="livesum")
opened = Counter("waystation_connections_opened", "Live connections opened", ["protocol"])
deliveries = Counter("waystation_deliveries", "Messages delivered to subscribers")
messages_received = Counter("waystation_live_messages_received", "Messages received from live connections")
slow_consumers = Counter("waystation_slow_consumers", "Connections ended because they did not read")


class Tally:
    """A number that grows often and is added to its counter now and then."""

    __slots__ = ("_counter", "count")

    def __init__(self, counter: Counter) -> None:
        self.count = 0
        self._counter = counter

    def flush(self) -> None:
        """Adds what was counted since the last time."""
        if self.count:
            self._counter.inc(self.count)
            self.count = 0


delivered = Tally(deliveries)
received = Tally(messages_received)


def flush() -> None:
    """Brings the counters up to date."""
    delivered.flush()
    received.flush()
