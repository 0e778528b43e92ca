"""Streams of a whole server: what other processes say reaches them, and its whole life is as the small one's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.events import Event, EventReader
from tests.server import Server, unique

OF_A_TASK = """
from realtime import Progress, notify
notify("admin", {"from": "a task"})
with Progress("Report", user="admin", id="%s", total=1) as task:
    task.advance()
"""


@contextmanager
def opened(api: httpx.Client, path: str, **options: dict[str, str]) -> Iterator[Iterator[Event]]:
    """The events of a stream."""
    with api.stream("GET", path, timeout=20, **options) as response:  # type: ignore[arg-type]
        assert response.status_code == 200

        def events() -> Iterator[Event]:
            reader = EventReader()
            for part in response.iter_raw():
                yield from reader.feed(part)

        yield events()


def test_what_another_process_says_is_shown(server: Server, api: httpx.Client) -> None:
    task = unique("task")
    with opened(api, "/api/notifications/stream") as notifications:
        next(notifications)
        server.manage("shell", "-c", OF_A_TASK % task)
        assert next(notifications).json()["payload"] == {"from": "a task"}
    with opened(api, f"/api/progress/{task}/stream") as states:
        [last] = states
        assert (last.name, last.json()["current"]) == ("completed", 1)


def test_what_is_published_over_rest_is_shown_to_a_browser_with_a_ticket(server: Server, api: httpx.Client) -> None:
    topic = unique()
    assert api.post("/api/v1/topics", json={"name": topic, "partitions": 1}).status_code == 201
    ticket = api.post("/api/v1/tickets").json()["ticket"]
    address = f"/api/v1/topics/{topic}/stream?ticket={ticket}"
    with server.client(None) as browser:
        with opened(browser, address) as events:
            assert next(events).name == "connected"
            assert api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value": 1}]}).status_code == 200
            record = next(events)
            assert (record.name, record.json()["value"]) == ("record", 1)
        api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value": 2}]})
        with opened(browser, address, headers={"Last-Event-ID": record.last_id}) as events:
            assert [next(events).name, next(events).json()["value"]] == ["connected", 2]
