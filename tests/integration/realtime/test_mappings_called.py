"""Calling message mappings: their arguments, where their answers go, and what happens when they fail."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from django.db import connections

from brokers import database
from brokers.access import Principal
from brokers.errors import InvalidType, InvalidValue, MalformedJson
from realtime import announcing, invoking, mappings, message_mapping, send_to
from realtime.invoking import invoke

pytestmark = pytest.mark.django_db(transaction=True)

ANNA = Principal("anna/laptop", False, token_id="abcd1234")


@dataclass
class Sent:
    """A frame as far as a mapping sees it."""

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Chat:
    text: str
    stars: int = 0


class Order(msgspec.Struct):
    number: int


@pytest.fixture(autouse=True)
async def said(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[tuple[str, bytes]]]:
    """Nothing is mapped yet; what is broadcast is kept here."""
    monkeypatch.setattr(mappings, "_mappings", {})
    monkeypatch.setattr(mappings, "_ordered", [])
    sent: list[tuple[str, bytes]] = []
    thread = ThreadPoolExecutor(1, thread_name_prefix="mapping")
    monkeypatch.setattr(invoking, "_executor", thread)
    monkeypatch.setattr(announcing, "announce", lambda destination, body, *others: sent.append((destination, body)))
    yield sent
    await asyncio.wrap_future(thread.submit(connections.close_all))
    thread.shutdown()
    await database.close()


async def test_an_answer_goes_to_the_topic_of_the_path(said: list[tuple[str, bytes]]) -> None:
    @message_mapping("/hello")
    def hello(body: Any) -> Any:
        return {"you said": body}

    await invoke("/hello", Sent(b'{"a":1}'), ANNA, "s1")
    assert said == [("/topic/hello", b'{"you said":{"a":1}}')]


async def test_an_asynchronous_handler_is_awaited(said: list[tuple[str, bytes]]) -> None:
    @message_mapping("/hello")
    async def hello(body: Any) -> Any:
        return body

    await invoke("/hello", Sent(b"[1]"), ANNA, "s1")
    assert said == [("/topic/hello", b"[1]")]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_arguments_are_told_apart_by_name(asynchronous: bool, said: list[tuple[str, bytes]]) -> None:
    seen: dict[str, Any] = {}

    def handle(chat: Chat, room: str, number: int, headers: dict[str, str], user: str, session_id: str) -> None:
        seen.update(chat=chat, room=room, number=number, headers=headers, user=user, session=session_id)

    async def ahandle(chat: Chat, room: str, number: int, headers: dict[str, str], user: str, session_id: str) -> None:
        handle(chat, room, number, headers, user, session_id)

    message_mapping("/chat/{room}/{number}")(ahandle if asynchronous else handle)
    await invoke("/chat/blue/7", Sent(b'{"text":"hi"}', {"x": "y"}), ANNA, "s1")
    assert seen == {
        "chat": Chat("hi"),
        "room": "blue",
        "number": 7,
        "headers": {"x": "y"},
        "user": "anna",
        "session": "s1",
    }
    assert said == []


async def test_the_principal_may_be_asked_for() -> None:
    seen: list[Any] = []

    @message_mapping("/who")
    def who(body: Any, principal: Principal, user: Principal) -> None:
        seen.extend([principal, user])

    await invoke("/who", Sent(), ANNA, "s1")
    assert seen == [ANNA, ANNA]


@pytest.mark.parametrize(
    ("annotation", "body", "content_type", "value"),
    [
        (bytes, b"\xff", "", b"\xff"),
        (str, b"plain", "", "plain"),
        (Chat, b'{"text":"a","stars":2}', "", Chat("a", 2)),
        (Order, b'{"number":3}', "application/json", Order(3)),
        (list[int], b"[1,2]", "", [1, 2]),
        (Any, b"[1,2]", "", [1, 2]),
        (Any, b"plain", "", b"plain"),
        (Any, b"7", "text/plain;charset=utf-8", "7"),
        (Any, b"7", "application/octet-stream", b"7"),
        (Any, b"7", "application/vnd.x+json", 7),
    ],
)
async def test_the_body_is_converted(annotation: Any, body: bytes, content_type: str, value: Any) -> None:
    seen: list[Any] = []

    def handle(body: Any) -> None:
        seen.append(body)

    handle.__annotations__["body"] = annotation
    message_mapping("/x")(handle)
    await invoke("/x", Sent(body, {"content-type": content_type} if content_type else {}), ANNA, "s1")
    assert seen == [value]


async def test_a_body_that_does_not_fit_is_the_clients_error() -> None:
    @message_mapping("/chat/{number}")
    def chat(body: Chat, number: int) -> None:
        raise AssertionError

    with pytest.raises(InvalidType):
        await invoke("/chat/1", Sent(b'{"text":1}'), ANNA, "s1")
    with pytest.raises(InvalidValue):
        await invoke("/chat/1", Sent(b"{}"), ANNA, "s1")
    with pytest.raises(MalformedJson):
        await invoke("/chat/1", Sent(b"{"), ANNA, "s1")
    with pytest.raises(InvalidType):
        await invoke("/chat/x", Sent(b'{"text":"a"}'), ANNA, "s1")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_a_handler_raises_is_logged(asynchronous: bool, caplog: pytest.LogCaptureFixture) -> None:
    def fail(body: Any) -> None:
        raise ZeroDivisionError

    async def afail(body: Any) -> None:
        raise ZeroDivisionError

    message_mapping("/fail")(afail if asynchronous else fail)
    with caplog.at_level(logging.ERROR, "waystation.mappings"):
        await invoke("/fail", Sent(), ANNA, "s1")
    assert "ZeroDivisionError" in caplog.text


async def test_answers_go_where_send_to_says(said: list[tuple[str, bytes]]) -> None:
    @message_mapping("/chat/{room}")
    @send_to("/topic/chat.{room}", "/user/queue/echo")
    def chat(body: Any) -> Any:
        return body

    await invoke("/chat/blue", Sent(b"1"), ANNA, "s1")
    assert said == [("/topic/chat.blue", b"1"), ("/user/anna/queue/echo", b"1")]


async def test_without_a_mapping_nothing_happens(said: list[tuple[str, bytes]]) -> None:
    await invoke("/unknown", Sent(b"1"), ANNA, "s1")
    assert said == []


async def test_a_synchronous_handler_runs_in_a_thread_of_its_own() -> None:
    names: list[str] = []

    @message_mapping("/x")
    def handle(body: Any) -> None:
        names.append(threading.current_thread().name)

    await invoke("/x", Sent(), ANNA, "s1")
    assert names[0].startswith("mapping")
