"""What the demo does, step by step: publish, let the group count and the queues work, mend what failed, compare."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from brokers import declarations, topic_log, topics
from brokers.errors import BrokerError, GroupNotFound
from brokers.management.replay_watch import is_over
from brokers.selectors import groups, replays
from examples.flights import handling, mending, publication, report, running_server, totals
from examples.flights.departures import DELAYED, RECORDS, WITHOUT_DEPARTURE_TIME, departures
from examples.flights.handling import Newest
from examples.flights.messaging import DELAYS, DEPARTURES
from examples.flights.publication import Publication
from examples.flights.totals import Standing
from messaging_site.processes import wait_for

LISTENER_SECONDS: Final = 5.0
"""How long a server may take to start its listeners, before the demo starts one."""
STALL_SECONDS: Final = 60.0
"""How long nothing may move before the demo gives up."""
LOOK_SECONDS: Final = 0.1


class Stalled(BrokerError):
    """What the demo waits for does not come."""


def demonstrate(console: Console, *, leave_failures: bool) -> int:
    """Runs the demo on the database of the settings; 0 when everything came out as the file says."""
    declarations.reconcile()
    _refuse_paused_group()
    with _listener(console), _bars(console) as progress:
        _finish_what_is_under_way(progress)
        _mend_what_an_earlier_run_left(console, progress)
        before, newest, newest_rows = totals.standing(DELAYS, DEPARTURES), mending.newest(), handling.newest()
        published = _publish(progress)
        console.print(report.published(DEPARTURES, published))
        seconds = _wait_until_counted(published.ends, progress, "counting", len(published.departures))
        failed = mending.of_records(published.departures.keys(), newest)
        report.failed(console, DELAYS, len(published.departures), seconds, mending.failure_groups(failed))
        if leave_failures:
            handled = _wait_until_handled(console, progress, published, newest_rows)
            console.print(report.how_to_mend(DELAYS, mending.PATCH))
            return 0 if handled and len(failed) == WITHOUT_DEPARTURE_TIME else 1
        report.planned(console, mending.plan(failed))
        outcome = _replay(failed, progress)
        console.print(report.replayed(outcome))
        handled = _wait_until_handled(console, progress, published, newest_rows)
        after = totals.standing(DELAYS, DEPARTURES)
        equal = _compare(console, progress, published, before, after)
    return 0 if equal and handled and len(failed) == outcome.succeeded == WITHOUT_DEPARTURE_TIME else 1


# -- before -------------------------------------------------------------------------------------------------------


def _refuse_paused_group() -> None:
    if _group_is("paused"):
        raise Stalled(f"the group {DELAYS} is paused; `manage.py groups resume {DELAYS}` lets it go on")


def _group_is(what: str) -> bool:
    try:
        group = groups.get(DELAYS)
    except GroupNotFound:
        return False
    return group.paused if what == "paused" else bool(group.members)


@contextmanager
def _listener(console: Console) -> Iterator[None]:
    """The listeners that the server runs, or one of the demo's own where there is none."""
    if wait_for(lambda: _group_is("served"), LISTENER_SECONDS, interval=LOOK_SECONDS):
        yield
        return
    console.print("No listener is running: starting one for the demo")
    with running_server.own_listener():
        yield


def _finish_what_is_under_way(progress: Progress) -> None:
    """Waits until the group has come to the log's end and what was given back to it has an outcome."""
    info = topics.lookup(DEPARTURES)
    ends = {number: topic_log.bounds(info, number).latest for number in range(len(info.partition_ids))}
    _wait_until_counted(ends, progress)
    for replay in mending.replays_under_way():
        _watch(replay.id, progress)
    _move(lambda: -mending.in_replay(), 0, lambda _: None, "an earlier replay")


def _mend_what_an_earlier_run_left(console: Console, progress: Progress) -> None:
    left = mending.left_open()
    if left:
        console.print(f"An earlier run left {len(left):,} dead letters open: mending them first")
    for start in range(0, len(left), mending.AT_ONCE):
        _replay(left[start : start + mending.AT_ONCE], progress)


# -- publishing and counting --------------------------------------------------------------------------------------


def _publish(progress: Progress) -> Publication:
    task = progress.add_task("publishing", total=RECORDS)
    return publication.publish(DEPARTURES, lambda count: progress.update(task, completed=count))


def _wait_until_counted(
    ends: Mapping[int, int], progress: Progress, what: str = "catching up", total: int | None = None
) -> float:
    """Until the group has committed these offsets; the seconds that took."""

    def left() -> int:
        offsets = totals.offsets(DELAYS, DEPARTURES)
        return sum(max(end - offsets.get(number, 0), 0) for number, end in ends.items())

    began, records = time.monotonic(), total or left()
    if records:
        task = progress.add_task(what, total=records)
        _move(lambda: -left(), 0, lambda to_go: progress.update(task, completed=records + to_go), f"group {DELAYS}")
    return time.monotonic() - began


def _move(
    reached: Callable[[], int], goal: int, told: Callable[[int], object], who: str, look: str = f"groups show {DELAYS}"
) -> None:
    """Waits until a number reaches its goal; raises `Stalled` when it does not change for a minute."""
    now = reached()

    def changed() -> bool:
        nonlocal now
        before, now = now, reached()
        told(now)
        return now != before or now >= goal

    while now < goal:
        if not wait_for(changed, STALL_SECONDS, interval=LOOK_SECONDS):
            raise Stalled(f"{who} has not moved for {STALL_SECONDS:.0f} s; `manage.py {look}` shows it")


def _wait_until_handled(console: Console, progress: Progress, published: Publication, newest: Newest) -> bool:
    """Until the queues' handlers have done all there is to do; whether that is what the file says, each once."""
    expected = handling.of_file(published.departures)
    task = progress.add_task("queues", total=expected.total)
    found = handling.done(published.departures, newest)

    def handled() -> int:
        nonlocal found
        found = handling.done(published.departures, newest)
        return found.total

    _move(handled, expected.total, lambda count: progress.update(task, completed=count), "a queue", "queues")
    differing = handling.differing(expected, found)
    report.handled(console, expected, found, differing)
    return not differing and expected.rebooked.total() == DELAYED


# -- mending ------------------------------------------------------------------------------------------------------


def _replay(ids: Sequence[int], progress: Progress) -> replays.ReplaySummary:
    return _watch(mending.replay(ids), progress)


def _watch(replay_id: int, progress: Progress) -> replays.ReplaySummary:
    """Until the replay is over, or somebody pauses it."""
    replay = replays.get(replay_id)
    task = progress.add_task(f"replay {replay_id}", total=replay.total)

    def left() -> int:
        nonlocal replay
        replay = replays.get(replay_id)
        progress.update(task, completed=replay.done)
        return 0 if replay.state == "paused" or is_over(replay) else replay.waiting + 1

    _move(lambda: -left(), 0, lambda _: None, f"replay {replay_id}")
    return replay


# -- comparing ----------------------------------------------------------------------------------------------------


def _compare(console: Console, progress: Progress, published: Publication, before: Standing, after: Standing) -> bool:
    """Whether the log holds what was published, and the totals have grown by what the file says."""
    task = progress.add_task("reading back", total=RECORDS)
    read = publication.read_back(
        DEPARTURES, published, before.offsets, after.offsets, lambda count: progress.update(task, completed=count)
    )
    console.print(report.read_back(read))
    of_file = totals.mended(departures())
    grown = after.totals.since(before.totals)
    differing = totals.differing(totals.both(of_file, totals.handled(read.others)), grown)
    report.compared(console, of_file, differing)
    return read.records == RECORDS and not read.different and not differing


@contextmanager
def _bars(console: Console) -> Iterator[Progress]:
    """A bar for each step, where the output is a terminal."""
    with Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield progress
