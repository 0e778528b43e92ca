"""Destinations: each form names what the contract says, and nothing else gets through."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime import destinations
from realtime.destinations import (
    App,
    Broadcast,
    Exchange,
    Queue,
    Reply,
    TemporaryQueue,
    Topic,
    UserOther,
    UserOwn,
    escaped,
    parse,
    unescaped,
)
from realtime.errors import ProtocolError


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("/topic/orders", Topic("orders")),
        ("/topic/or%64ers", Topic("orders")),
        ("/topic/price.stock.*", Broadcast("/topic/price.stock.*", True, "price.stock.*")),
        ("/topic/**", Broadcast("/topic/**", True, "**")),
        ("/topic/chat/room1", Broadcast("/topic/chat/room1", False, "chat/room1")),
        ("/topic/caf%C3%A9", Broadcast("/topic/caf%C3%A9", False, "café")),
        ("/topic/%2A", Broadcast("/topic/%2A", False, "*")),
        ("/queue/work", Queue("work")),
        ("/amq/queue/work", Queue("work", must_exist=True)),
        ("/exchange/events", Exchange("events", "")),
        ("/exchange/events/", Exchange("events", "")),
        ("/exchange/events/a.*.#", Exchange("events", "a.*.#")),
        ("/exchange/events/a%2Fb", Exchange("events", "a/b")),
        ("/app/hello", App("/hello")),
        ("/app/rooms/7/say", App("/rooms/7/say")),
        ("/user/queue/replies", UserOwn("/queue/replies")),
        ("/user/topic/replies", UserOwn("/topic/replies")),
        ("/user/ada/queue/replies", UserOther("ada", "/queue/replies")),
        ("/user/a%2Fda/queue/replies", UserOther("a/da", "/queue/replies")),
        ("/user/queue/queue/replies", UserOwn("/queue/queue/replies")),
        ("/temp-queue/answers", TemporaryQueue("answers")),
        ("/reply-queue/reply.7", Reply("reply.7")),
    ],
)
def test_each_form_names_what_it_says(text: str, meant: destinations.Destination) -> None:
    assert parse(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "orders",
        "/",
        "/topic",
        "/topic/",
        "/topic//a",
        "/topic/a/",
        "/topic/../a",
        "/topic/a\nb",
        "/topic/a\0",
        "/topic/%",
        "/topic/%4",
        "/topic/%GG",
        "/topic/%FF",
        "/topic/a%00b",
        "/topic/a%0Ab",
        "/topics/a",
        "/Topic/a",
        "/queue/a/b",
        "/queue/a b",
        "/queue/*",
        "/queue/" + "a" * 250,
        "/amq/topic/a",
        "/exchange/",
        "/exchange//key",
        "/exchange/a b/key",
        "/exchange/a/b/c",
        "/exchange/a/" + "k" * 256,
        "/user/ada",
        "/user/ada/queue",
        "/user/ada/elsewhere/x",
        "/user/queue",
        "/user/queue/",
        "/topic/" + "a" * 1024,
    ],
)
def test_what_is_no_destination_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        parse(text)
    assert refused.value.code == "invalid_destination"


@given(st.text(max_size=40))
def test_any_text_is_a_destination_or_refused(text: str) -> None:
    for prefix in ("", "/topic/", "/queue/", "/exchange/", "/user/", "/app/", "/amq/queue/"):
        with contextlib.suppress(ProtocolError):
            parse(prefix + text)


@given(st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs", "Cf", "Co", "Cn", "Zl", "Zp", "Zs")), min_size=1))
def test_an_escaped_name_is_read_back(name: str) -> None:
    assert "/" not in escaped(name)
    assert unescaped("", escaped(name)) == name
