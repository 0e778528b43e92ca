"""Claims over REST whose caller goes away while they are held: no message stays claimed for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.db import connections

from brokers import database
from brokers.queues import claims
from brokers.queues.message import Message
from brokers.queues.topology import QueueInfo
from brokers.rest import queue_messages, serving
from brokers.rest.bodies import Disconnected
from brokers.rest.operation import Answer
from tests.integration.brokers.queues.living import put, queue

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def of() -> AsyncIterator[QueueInfo]:
    """A queue with three messages."""

    def declared() -> QueueInfo:
        try:
            found = queue()
            put(found, 0, 1, 2)
            return found
        finally:
            connections.close_all()

    yield await asyncio.to_thread(declared)
    await database.close()


async def gone() -> Any:
    return {"type": "http.disconnect"}


async def test_what_is_claimed_while_the_caller_goes_is_given_back(of: QueueInfo) -> None:
    claimed, go_on = asyncio.Event(), asyncio.Event()

    async def claiming() -> list[Message]:
        found = await claims.aclaim(of, 2, 600_000, "a caller")
        claimed.set()
        await go_on.wait()
        return found

    call = asyncio.create_task(queue_messages._kept(of, claiming()))
    await claimed.wait()
    assert [message.body for message in await claims.aclaim(of, 10, 600_000, "another")] == [2]
    call.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    again = await claims.aclaim(of, 10, 600_000, "another")
    assert [(message.body, message.returns) for message in again] == [(0, 1), (1, 1)]


async def test_an_answer_whose_caller_has_just_gone_is_taken_back(of: QueueInfo) -> None:
    async def claim() -> Answer:
        found = await claims.aclaim(of, 2, 600_000, "a caller")
        return Answer(unsent=lambda: queue_messages._give_back(of, found))

    answer = await claim()

    async def handled() -> Answer:
        return answer

    with pytest.raises(Disconnected):
        await serving._while_wanted(handled(), gone)
    assert [message.body for message in await claims.aclaim(of, 10, 600_000, "another")] == [0, 1, 2]


async def test_an_answer_whose_caller_waits_is_sent(of: QueueInfo) -> None:
    taken_back: list[bool] = []

    async def take_back() -> None:
        taken_back.append(True)

    async def handled() -> Answer:
        return Answer(unsent=take_back)

    async def waiting() -> Any:
        await asyncio.Event().wait()

    assert (await serving._while_wanted(handled(), waiting)).status == 200
    assert taken_back == []
