"""What the flights example declares: topics, the group that counts departures, queues of delayed ones, tasks."""

from typing import Any

import msgspec

from brokers import (
    BatchListenerFailed,
    ExponentialBackOff,
    FixedBackOff,
    binding,
    exchange,
    idempotent,
    publish_many,
    queue,
    queue_listener,
    send_many,
    topic,
    topic_listener,
)
from brokers.queues.message import Message
from brokers.record import Record
from examples.flights import board, daily, exporting, rates
from examples.flights.counting import Counts
from examples.flights.delays import CREW_DESK, CREW_DESK_MS, TOP_PRIORITY, as_message, is_worth_a_message
from examples.flights.models import AircraftTotal, CarrierTotal, Departure, Rebooking, StandbyCall
from scheduling import background, scheduled

DEPARTURES = topic("departures", partitions=6)
DELAYS = "delays"

# What changes on the departures board, for the browsers that show it (`views`).
BOARD = topic("departure-board", partitions=3)

DELAYED = exchange("delays", type="topic")
REBOOKING = queue("rebooking", max_priority=TOP_PRIORITY)
binding(DELAYED, queue=REBOOKING, routing_key="flight.*.*")

# The crew desk takes messages itself, over REST. What it has not taken in time goes to the standby crews.
ESCALATION = exchange("escalation", type="fanout")
CREW = queue("crew", message_ttl_ms=CREW_DESK_MS, dead_letter_exchange=ESCALATION)
binding(DELAYED, queue=CREW, routing_key=f"flight.{CREW_DESK}.*")
STANDBY = queue("standby")
binding(ESCALATION, queue=STANDBY)


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
    """Counts the flights of one poll and sends the delayed ones, or says which of them cannot be counted.

    Totals, board, messages and the group's offset are one transaction: whoever sees a row of the board sees its record.
    """
    counts = Counts()
    delayed = []
    entries = {}
    for index, record in enumerate(records):
        try:
            flight = counts.add(record.value, record.partition)
        except ValueError as error:
            raise BatchListenerFailed(index) from error
        if is_worth_a_message(flight):
            delayed.append(as_message(flight, record.partition, record.offset, record.timestamp))
        if entry := board.entry(record.value):
            entries[entry.id] = entry
    AircraftTotal.add(counts.by_aircraft)
    CarrierTotal.add(counts.by_carrier)
    Departure.put(entries.values())
    publish_many(BOARD, [{"key": entry.id, "value": msgspec.to_builtins(entry)} for entry in entries.values()])
    send_many(DELAYED, delayed)


@queue_listener(REBOOKING, prefetch=50)
@idempotent(key=lambda message: message.message_id)
def rebook(message: Message) -> None:
    """Looks after the passengers of a delayed flight, the longest delay first."""
    Rebooking.of(message.body, message.headers, priority=message.priority).save()


@queue_listener(STANDBY, prefetch=50)
@idempotent(key=lambda message: message.message_id)
def call_standby_crew(message: Message) -> None:
    """Calls a standby crew for a flight that the crew desk has not seen to; notes why the message came here."""
    StandbyCall.of(message.body, message.headers, reason=message.headers["x-first-death-reason"]).save()


@scheduled(
    cron="0 0 8 * * *",
    zone=daily.ZONE,
    name="daily_report",
    lock="daily-report",
    lock_at_most_for="PT30M",
    lock_at_least_for="PT5M",
)
def daily_report() -> dict[str, Any]:
    """Reports at eight in New York how the departures stand; run once more on the same day it does so anew."""
    return daily.write()


@scheduled(fixed_rate="PT30S", name="roll_up_rates", timeout="PT1M")
def roll_up_rates() -> dict[str, int]:
    """Counts what has reached the board since the last time, by the minute, and shows it on the page."""
    return rates.roll_up(BOARD)


@background(
    durable=True,
    name="export_departures",
    retry=ExponentialBackOff(initial_interval_ms=1000, multiplier=2.0, max_retries=exporting.RETRIES),
    timeout="PT10M",
)
def export_departures(export: str) -> dict[str, Any]:
    """Makes the file that somebody has asked for on the page, whatever happens to the worker in the middle of it."""
    return exporting.write(export)
