"""What streams send is what the OpenAPI document says: every kind of event, its fields and the JSON of its data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import jsonschema_rs
import pytest

from brokers.rest import openapi
from brokers.rest.schemas import FetchedRecord
from realtime import Progress, anotify, notifications
from realtime.positions import encode
from realtime.sse.event_schemas import DATA
from tests.events import Event
from tests.integration.realtime.following import add, created
from tests.protocol.sse.serving import Streams, execute, in_thread, issued, revoke, streams

pytestmark = pytest.mark.django_db(transaction=True)

TOPIC = {"connected": "TopicConnected", "record": "FetchedRecord", "gap": "RecordGap", "error": "StreamError"}
NOTIFICATIONS = {
    "connected": "NotificationsConnected",
    "notification": "StreamedNotification",
    "gap": "NotificationGap",
    "error": "StreamError",
}
TASK = {"progress": "TaskProgress", "completed": "TaskProgress", "failed": "TaskProgress", "error": "StreamError"}


@pytest.fixture
async def served() -> AsyncIterator[Streams]:
    """A server, and a client of the user ann."""
    async with streams(await issued("ann", ("read", "topic", ""))) as made:
        yield made


def check(served: Streams, path: str, kinds: dict[str, str], events: list[Event]) -> None:
    """Holds events, of which there is one of each kind at least, against the document."""
    [operation] = [each for each in served.application.operations if each.path == path]
    answer = operation.answers[200]
    assert answer is not None
    components = openapi._components([answer, FetchedRecord, *DATA])
    schema: dict[str, Any] = components[answer.__name__]
    described = {each["$ref"].rpartition("/")[2] for each in schema["properties"]["data"]["contentSchema"]["anyOf"]}
    assert (set(schema["properties"]["event"]["enum"]), described) == (set(kinds), set(kinds.values()))
    assert {event.name for event in events} == set(kinds)
    for event in events:
        jsonschema_rs.validate(schema, {"event": event.name, "data": event.data, "id": event.last_id})
        jsonschema_rs.validate(components[kinds[event.name]] | {"additionalProperties": False}, event.json())


async def test_events_of_topics(served: Streams) -> None:
    info = await created()
    await add(info, 1, 2, 3)
    await execute("update brokers_partition set earliest_offset = 3 where id = %s", info.partition_ids[0])
    await execute("delete from brokers_log_batch")
    await add(info, 4, key=b"k")
    await add(info, "not JSON", key=b"\xff")
    headers = {"Last-Event-ID": encode(info.id, [0])}
    async with served.open(f"/api/v1/topics/{info.name}/stream", headers=headers) as stream:
        events = await stream.take(4)
        await revoke("ann")
        events += await stream.rest()
    check(served, "/api/v1/topics/{topic}/stream", TOPIC, events)


async def test_events_of_notifications(served: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "KEPT", 1)
    for n in range(3):
        await anotify("ann", {"n": n})
    inbox = (await notifications.open_inbox("ann")).inbox
    async with served.open("/api/notifications/stream", headers={"Last-Event-ID": f"{inbox}-0"}) as stream:
        events = await stream.take(3)
        await revoke("ann")
        events += await stream.rest()
    check(served, "/api/notifications/stream", NOTIFICATIONS, events)


async def test_events_of_tasks(served: Streams) -> None:
    tasks = [await in_thread(lambda: Progress("Import", user="ann", total=2)) for _ in range(3)]
    events: list[Event] = []
    for task, end in zip(tasks, ("complete", "fail", "lose"), strict=True):
        async with served.open(f"/api/progress/{task.id}/stream") as stream:
            events.append(await stream.next())
            if end == "complete":
                await in_thread(task.complete, [1])
            elif end == "fail":
                await in_thread(task.fail, "no")
            else:
                await revoke("ann")
            events += await stream.rest()
    check(served, "/api/progress/{task_id}/stream", TASK, events)
