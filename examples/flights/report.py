"""What the demo prints: sentences with their figures, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from brokers.replays.plans import Plan
from brokers.selectors.replays import ReplaySummary
from brokers.terminal import printable
from examples.flights.counting import Count
from examples.flights.delays import CREW_DESK, CREW_DESK_MS, WORTH_MINUTES
from examples.flights.handling import Handled
from examples.flights.publication import Publication, ReadBack
from examples.flights.totals import Totals

BUSIEST: Final = 5
DIFFERENCES: Final = 20
"""Differing totals that are listed."""


def published(topic: str, made: Publication) -> str:
    """How fast it went in."""
    count = len(made.departures)
    return f"Published {count:,} records to {topic}: {count / made.seconds:,.0f} records/s, each on disk"


def failed(console: Console, group: str, records: int, seconds: float, groups: Sequence[tuple[str, str, int]]) -> None:
    """The failure groups, and how fast the rest was counted."""
    letters = sum(count for _, _, count in groups)
    console.print(
        f"Group {group} came to the end after {seconds:.1f} s: {records - letters:,} departures counted,"
        f" {letters:,} dead letters in {len(groups)} failure groups"
    )
    table = _table("Exception", "Message", ">Dead letters")
    for exception, message, count in groups:
        _row(table, exception.rpartition(".")[2], message, f"{count:,}")
    _print(console, table)
    console.print()


def handled(console: Console, expected: Handled, found: Handled, differing: int) -> None:
    """What became of the messages about delayed flights, and whether it is what the file says."""
    console.print()
    console.print(
        f"{expected.rebooked.total():,} flights departed {WORTH_MINUTES} minutes late or more:"
        " each was sent to the exchange delays as flight.<origin>.<carrier>"
    )
    priorities = ", ".join(f"{count:,} of {priority}" for priority, count in found.by_priority.items())
    expired = f"expired: the desk did not take them within {CREW_DESK_MS / 1000:g} s"
    table = _table("Queue", "Messages from", ">Messages", "What became of them")
    _row(table, "rebooking", "delays by flight.*.*", f"{found.rebooked.total():,}", f"rebooked; priority {priorities}")
    _row(table, "crew", f"delays by flight.{CREW_DESK}.*", f"{found.standby.total():,}", expired)
    _row(table, "standby", "crew, dead-lettered", f"{found.standby.total():,}", "standby crews called")
    _print(console, table)
    console.print()
    if differing:
        console.print(f"{differing:,} of what the queues' handlers wrote differ from the file")
    else:
        console.print("The queues' handlers wrote exactly what the file says, each once")
    console.print()


def planned(console: Console, plan: Plan) -> None:
    """The plan: how many, how many not and why, and what would change in one of them."""
    skipped = "".join(f", {count:,} skipped ({why.replace('_', ' ')})" for why, count in plan.skipped.items())
    console.print(f"Plan: {plan.total:,} dead letters would be replayed{skipped or ', none skipped'}")
    for each in plan.sample[:1]:
        before, after = (msgspec.json.decode(contents.value or b"null") for contents in (each.before, each.after))
        change = {name: value for name, value in after.items() if name not in before or before[name] != value}
        console.print(
            printable(
                f"  dead letter {each.id}, flight {before['carrier']}{before['flight']} from {before['origin']}:"
                f" sets {msgspec.json.encode(change).decode()}"
            )
        )


def replayed(replay: ReplaySummary) -> str:
    """The outcome of a replay."""
    seconds = 0.0 if replay.finished_at is None else (replay.finished_at - replay.starts_at).total_seconds()
    return (
        f"Replay {replay.id} {replay.state}: {replay.succeeded:,} succeeded, {replay.failed_again:,} failed again,"
        f" {replay.skipped:,} skipped" + (f"; sent in {seconds:.1f} s" if seconds else "")
    )


def how_to_mend(group: str, patch: bytes) -> str:
    """What to type when the demo leaves the failures to the reader."""
    return (
        "They are left open. Look at them in the console, or with `manage.py dead_letters`; this mends them:\n"
        f"  python manage.py replay --group {group} --merge-patch '{patch.decode()}'"
    )


def read_back(read: ReadBack) -> str:
    """How fast it came out, and whether it was the same."""
    rate = read.records / read.seconds
    others = f", {len(read.others):,} of others" if read.others else ""
    return f"Read back {read.records:,} records: {rate:,.0f} records/s, {read.different:,} different{others}"


def compared(console: Console, of_file: Totals, differing: Sequence[tuple[str, Count, Count]]) -> None:
    """The totals by carrier and of the busiest aircraft, and whether they are the file's."""
    wrong = {name for name, _, _ in differing}
    for head, totals, shown in (
        ("Carrier", of_file.by_carrier, len(of_file.by_carrier)),
        ("Busiest aircraft", of_file.by_aircraft, BUSIEST),
    ):
        table = _table(head, ">Departures", ">Delay minutes", ">Cancelled", "Totals")
        busiest = sorted(totals.items(), key=lambda item: (-item[1].departures, item[0]))
        for name, count in busiest[:shown]:
            _row(table, name, *(f"{number:,}" for number in count), "differ" if name in wrong else "equal")
        _print(console, table)
    console.print()
    whole = of_file.whole
    if not differing:
        console.print(
            f"The totals of {len(of_file.by_carrier)} carriers and {len(of_file.by_aircraft):,} aircraft equal those of"
            f" the file: {whole.departures:,} departures, {whole.delay_minutes:,} minutes of delay,"
            f" {whole.cancelled:,} cancelled"
        )
        return
    console.print(f"{len(differing):,} totals differ from those of the file:")
    table = _table("Carrier or aircraft", "File", "Counted")
    for name, wanted, got in differing[:DIFFERENCES]:
        _row(table, name, *(" ".join(f"{number:,}" for number in count) for count in (wanted, got)))
    _print(console, table)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left")
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(printable(cell)) for cell in cells))


def _print(console: Console, table: Table) -> None:
    console.print()
    console.print(table)
