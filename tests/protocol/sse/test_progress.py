"""Streams of tasks, as a client over HTTP sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from django.contrib.auth.models import User

from realtime import Progress, progress
from realtime.sse import following
from tests.protocol.sse.serving import Streams, execute, in_thread, issued, streams

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streams]:
    """A server, and a client of the user ann, who may do nothing else."""
    monkeypatch.setattr(progress, "WRITE_SECONDS", 0.0)
    async with streams(await issued("ann")) as made:
        yield made


def path(task: Progress) -> str:
    return f"/api/progress/{task.id}/stream"


async def begun(user: str = "ann", total: int | None = None) -> Progress:
    made: Progress = await in_thread(lambda: Progress("Import", user=user, total=total))
    return made


async def test_a_task_is_shown_until_it_completes(served: Streams) -> None:
    task = await begun(total=3)
    async with served.open(path(task)) as stream:
        first = await stream.next()
        shown = first.json()
        assert (first.name, first.last_id, stream.reader.retry) == ("progress", "1", 3000)
        assert shown.pop("started_at").endswith("Z")
        assert shown.pop("updated_at").endswith("Z")
        assert shown == {
            "id": task.id,
            "title": "Import",
            "state": "running",
            "current": 0,
            "total": 3,
            "message": "",
            "result": None,
            "error": None,
        }
        await in_thread(lambda: task.update(current=2, message="two"))
        second = await stream.next()
        assert (second.name, second.last_id, second.json()["current"]) == ("progress", "2", 2)
        await in_thread(lambda: task.complete({"rows": [1]}))
        [last] = await stream.rest()
        assert (last.name, last.last_id, last.json()["result"]) == ("completed", "3", {"rows": [1]})
        assert last.json()["current"] == 3
    assert (await served.client.get(path(task), headers={"Last-Event-ID": "3"})).status_code == 204


async def test_a_failed_task_ends_with_its_error(served: Streams) -> None:
    task = await begun()
    async with served.open(path(task)) as stream:
        await stream.next()
        await in_thread(lambda: task.fail(KeyError("x")))
        [last] = await stream.rest()
        assert (last.name, last.json()["error"]) == ("failed", "KeyError: 'x'")


async def test_who_comes_after_the_end_sees_it_once(served: Streams) -> None:
    task = await begun()
    await in_thread(lambda: task.complete())
    for headers in ({}, {"Last-Event-ID": "1"}):
        async with served.open(path(task), headers=headers) as stream:
            [last] = await stream.rest()
            assert last.name == "completed"
    answer = await served.client.get(path(task), params={"last_event_id": last.last_id})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_who_saw_the_present_state_waits_for_the_next(served: Streams) -> None:
    task = await begun()
    async with served.open(path(task), headers={"Last-Event-ID": "1"}) as stream:
        await in_thread(lambda: task.update(current=1))
        assert (await stream.next()).last_id == "2"


async def test_a_task_that_begins_anew_is_shown_to_who_saw_it_fail(served: Streams) -> None:
    task = await begun()
    await in_thread(lambda: task.fail("once"))
    again = await in_thread(lambda: Progress("Again", user="ann", id=task.id))
    async with served.open(path(again), headers={"Last-Event-ID": "2"}) as stream:
        assert (await stream.next()).json()["title"] == "Again"


async def test_a_task_is_its_users_and_superusers(served: Streams) -> None:
    task = await begun("bob")
    answer = await served.client.get(path(task))
    assert (answer.status_code, answer.json()["code"]) == (404, "progress_not_found")
    unknown = await served.client.get("/api/progress/unknown/stream")
    assert unknown.json()["detail"].replace("unknown", task.id) == answer.json()["detail"]
    token = await issued("root")
    await execute("update brokers_api_token set superuser = true where owner_id = %s", await root_id())
    async with served.open(path(task), headers={"Authorization": f"Bearer {token}"}) as stream:
        await stream.next()


async def root_id() -> int:
    found: int = await in_thread(lambda: User.objects.get(username="root").pk)
    return found


async def test_what_is_no_task_or_no_id_is_refused(served: Streams) -> None:
    task = await begun()
    for wrong in ("2", "-1", "x", "1.0", "9" * 19, "9" * 12_000, "1-1"):
        answer = await served.client.get(path(task), headers={"Last-Event-ID": wrong})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_last_event_id"), wrong
    for name in ("a%20b", "x" * 65, "%00", "%3Bpath=x"):
        assert (await served.client.get(f"/api/progress/{name}/stream")).status_code == 422


async def test_a_lost_hint_costs_a_second_and_a_forgotten_task_ends_the_stream(
    served: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(Progress, "_announce", lambda self: None)
    task = await begun()
    async with served.open(path(task)) as stream:
        await stream.next()
        await in_thread(lambda: task.update(current=5))
        assert (await stream.next()).json()["current"] == 5
        await execute("delete from realtime_progress")
        [error] = await stream.rest()
        assert (error.name, error.json()["code"]) == ("error", "progress_not_found")
