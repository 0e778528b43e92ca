"""Exports of departures: asked for on the page, made by a worker, resumed after one was killed, downloaded."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connections
from django.test import AsyncClient, Client

from brokers import declarations
from brokers.database import close
from brokers.models import DeadLetter, Grant
from examples.flights import board, exporting, exports
from examples.flights.departures import departures
from examples.flights.exports import ExportNotFound
from examples.flights.messaging import BOARD
from examples.flights.models import Departure, Export, ExportChunk
from realtime.models import ProgressRow
from scheduling.beat import sweeping
from scheduling.durable import calls
from tests.integration.flights import sample
from tests.integration.scheduling.calling import Rings, Works

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "a-key-of-the-page-1"


class Killed(BaseException):
    """Ends an attempt as SIGKILL does: nothing is written down after it."""


@pytest.fixture(autouse=True)
def example() -> None:
    declarations.discover()
    declarations.reconcile()


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> Rings:
    found = Rings()
    for module in (calls, sweeping):
        monkeypatch.setattr(module, "doorbell", found)
    return found


@pytest.fixture
def works(rings: Rings) -> Iterator[Works]:
    found = Works(rings)
    yield found
    found.close()


@pytest.fixture
def anna() -> User:
    """Somebody who may read the board."""
    user = User.objects.create_user("anna", is_staff=True)
    Grant.objects.create(user=user, operation="read", resource_type="topic", name=BOARD)
    return user


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files in pieces of two departures."""
    monkeypatch.setattr(exporting, "CHUNK", 2)


def call_of(export: Export) -> int:
    assert export.call is not None
    return export.call


def file_of(export: Export) -> bytes:
    async def read() -> bytes:
        try:
            return b"".join([chunk async for chunk in exports.content(export)])
        finally:
            await close()

    return async_to_sync(read)()


def told_of(export: Export) -> tuple[str, int, int | None]:
    row = ProgressRow.objects.get(pk=export.id)
    return row.state, row.current, row.total


EXPECTED = [
    ["2013-01-01T10:15Z", "UA 1545", "EWR", "IAH", "departed", "2"],
    ["2013-01-01T10:29Z", "UA 1714", "LGA", "IAH", "departed", "4"],
    ["2013-01-01T10:40Z", "AA 1141", "JFK", "MIA", "departed", "2"],
    ["2013-01-01T10:45Z", "B6 725", "JFK", "BQN", "departed", "-1"],
    ["2013-01-01T11:08Z", "EV 4144", "EWR", "IAD", "departed", "24"],
    ["2013-01-01T11:45Z", "UA 1111", "EWR", "MCO", "departed", "47"],
    ["2013-01-01T21:30Z", "EV 4308", "EWR", "RDU", "cancelled", ""],
]


def lines(data: bytes) -> list[list[str]]:
    found = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert found[0] == list(exporting.COLUMNS)
    return found[1:]


def test_an_export_holds_all_departures_and_says_how_far_it_is(works: Works, anna: User, small: None) -> None:
    Departure.put(sample.entries())
    export = exports.ask(anna, KEY)
    assert works.rings.rung == [export.call]
    assert told_of(export) == ("running", 0, None)
    with pytest.raises(ExportNotFound):
        exports.finished(anna, KEY)

    assert works.perform(call_of(export)) == "succeeded"
    ready = exports.finished(anna, KEY)
    assert lines(file_of(ready)) == EXPECTED
    assert (ready.departures, ready.chunks, ready.size) == (7, 4, len(file_of(ready)))
    assert told_of(export) == ("completed", 7, 7)
    assert calls.get(call_of(export)).result == {"departures": 7, "bytes": ready.size}


def test_an_export_goes_on_where_its_worker_was_killed(
    monkeypatch: pytest.MonkeyPatch, works: Works, anna: User, small: None
) -> None:
    Departure.put(sample.entries())
    export = exports.ask(anna, KEY)
    whole, read = exporting.as_csv, []

    def fragile(rows: Any, *, with_header: bool) -> bytes:
        read.append(len(rows))
        if len(read) == 3:
            raise Killed
        return whole(rows, with_header=with_header)

    with monkeypatch.context() as patched:
        patched.setattr(exporting, "as_csv", fragile)
        with pytest.raises(Killed):
            works.perform(call_of(export))
    assert told_of(export)[0] == "running"
    assert ExportChunk.objects.filter(export=export).count() == 2

    works.lose(call_of(export))
    assert works.perform(call_of(export)) == "succeeded"
    assert lines(file_of(exports.finished(anna, KEY))) == EXPECTED
    assert told_of(export) == ("completed", 7, 7)
    assert calls.get(call_of(export)).attempts == 2


def test_of_two_attempts_at_once_one_stops(
    monkeypatch: pytest.MonkeyPatch, works: Works, anna: User, small: None
) -> None:
    Departure.put(sample.entries())
    export = exports.ask(anna, KEY)
    whole = exporting.as_csv
    done: list[dict[str, Any]] = []

    def elsewhere() -> dict[str, Any]:
        try:
            return exporting.write(export.id)
        finally:
            connections.close_all()

    def overtaken(rows: Any, *, with_header: bool) -> bytes:
        """While an attempt that was stopped sleeps, another does it all."""
        if not done:
            monkeypatch.setattr(exporting, "as_csv", whole)
            with ThreadPoolExecutor(1) as pool:
                done.append(pool.submit(elsewhere).result(20))
        return whole(rows, with_header=with_header)

    monkeypatch.setattr(exporting, "as_csv", overtaken)
    assert exporting.write(export.id) == {"left_alone": True}
    assert done[0]["departures"] == 7
    assert lines(file_of(exports.finished(anna, KEY))) == EXPECTED


def test_a_form_that_is_sent_twice_makes_one_export(client: Client, rings: Rings, anna: User) -> None:
    client.force_login(anna)
    page = client.get("/flights/").content.decode()
    found = re.search(r'name="key" value="([^"]+)"', page)
    assert found is not None
    for key in (found[1], found[1], "of-another-tab-of-hers"):
        assert client.post("/flights/exports/", {"key": key}).status_code == 302
    export = Export.objects.get()
    assert (export.id, rings.rung) == (found[1], [export.call])
    assert 'data-standing="running"' in client.get("/flights/").content.decode()


def test_a_finished_export_is_made_once_for_its_key_and_three_are_kept(works: Works, anna: User) -> None:
    for number in range(5):
        export = exports.ask(anna, f"{KEY}{number}")
        assert works.perform(call_of(export)) == "succeeded"
        assert exports.ask(anna, f"{KEY}{number}").call == export.call
    assert sorted(Export.objects.values_list("id", flat=True)) == [f"{KEY}{number}" for number in (2, 3, 4)]
    assert ExportChunk.objects.count() == 3


def test_an_export_that_was_given_up_goes_on_when_it_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, works: Works, client: Client, anna: User, small: None
) -> None:
    Departure.put(sample.entries())
    export = exports.ask(anna, KEY)
    with monkeypatch.context() as patched:
        patched.setattr(exporting, "COLUMNS", None)
        for _ in range(exporting.RETRIES):
            assert works.perform(call_of(export)) == "ready"
            assert told_of(export)[0] == "running"
        assert works.perform(call_of(export)) == "dead"
    assert told_of(export)[0] == "failed"
    assert DeadLetter.objects.filter(state="open").count() == 1
    client.force_login(anna)
    assert 'data-standing="failed"' in client.get("/flights/").content.decode()

    again = exports.ask(anna, "another-key-of-hers")
    assert (again.id, again.call == export.call) == (export.id, False)
    assert works.perform(call_of(again)) == "succeeded"
    assert lines(file_of(exports.finished(anna, KEY))) == EXPECTED
    assert told_of(export)[0] == "completed"


def test_a_file_is_for_who_has_asked_for_it(works: Works, client: Client, anna: User) -> None:
    export = exports.ask(anna, KEY)
    works.perform(call_of(export))
    address = f"/flights/exports/{KEY}/"
    assert client.get(address).status_code == 302
    client.force_login(User.objects.create_superuser("ada"))
    assert client.get(address).status_code == 404
    with pytest.raises(ExportNotFound):
        exports.ask(User.objects.get(username="ada"), KEY)

    client.force_login(anna)
    assert client.post("/flights/exports/", {"key": "too short"}).status_code == 400
    page = client.get("/flights/").content.decode()
    assert 'data-standing="completed"' in page
    assert address in page


def test_a_file_is_sent_piece_by_piece(works: Works, anna: User) -> None:
    Departure.put([entry for row in list(departures())[:2500] if (entry := board.entry(row)) is not None])
    works.perform(call_of(exports.ask(anna, KEY)))
    export = exports.finished(anna, KEY)
    client = AsyncClient()
    client.force_login(anna)

    async def download() -> tuple[Any, list[bytes]]:
        answer: Any = await client.get(f"/flights/exports/{KEY}/")
        try:
            return answer, [piece async for piece in answer.streaming_content]
        finally:
            await close()

    answer, pieces = async_to_sync(download)()
    assert (answer.status_code, answer["content-type"].split(";")[0]) == (200, "text/csv")
    assert answer["content-disposition"].startswith("attachment; filename=")
    assert len(pieces) == export.chunks == 3
    data = b"".join(pieces)
    assert (len(data), int(answer["content-length"])) == (export.size, export.size)
    assert len(lines(data)) == export.departures == Departure.objects.count()
