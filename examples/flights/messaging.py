"""What the flights example declares: a topic, and the consumer group that counts its departures."""

from brokers import BatchListenerFailed, FixedBackOff, topic, topic_listener
from brokers.record import Record
from examples.flights.counting import Counts
from examples.flights.models import AircraftTotal, CarrierTotal

DEPARTURES = topic("departures", partitions=6)
DELAYS = "delays"


@topic_listener(
    DEPARTURES,
    group=DELAYS,
    batch=True,
    concurrency=3,
    max_poll_records=100,
    retry=FixedBackOff(interval_ms=1000, max_retries=3),
    not_retryable=(ValueError,),
)
def count_departures(records: list[Record]) -> None:
    """Counts the flights of one poll in two statements, or says which of them cannot be counted."""
    counts = Counts()
    for index, record in enumerate(records):
        try:
            counts.add(record.value, record.partition)
        except ValueError as error:
            raise BatchListenerFailed(index) from error
    AircraftTotal.add(counts.by_aircraft)
    CarrierTotal.add(counts.by_carrier)
