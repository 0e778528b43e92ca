"""Declaring message mappings: what is taken, and what is refused at import."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from brokers.errors import InvalidType, InvalidValue
from realtime import mappings, message_mapping, send_to


@pytest.fixture(autouse=True)
def _nothing_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mappings, "_mappings", {})
    monkeypatch.setattr(mappings, "_ordered", [])


def test_the_most_specific_mapping_is_found() -> None:
    @message_mapping("/chat/{room}")
    def in_room(body: object) -> None: ...

    @message_mapping("/chat/main")
    def in_main(body: object) -> None: ...

    found = mappings.find("/chat/main")
    assert found is not None
    assert found[0].function is in_main
    other = mappings.find("/chat/side")
    assert other is not None
    assert other[0].function is in_room
    assert other[1] == {"room": "side"}
    assert mappings.find("/chat") is None


def test_a_route_is_mapped_once_whatever_its_variables_are_called() -> None:
    @message_mapping("/chat/{room}")
    def first(body: object) -> None: ...

    with pytest.raises(InvalidValue, match="mapped twice"):

        @message_mapping("/chat/{place}")
        def second(body: object) -> None: ...

    message_mapping("/chat/{room}")(first)
    assert len(mappings.declared()) == 1


@pytest.mark.parametrize("above", [True, False])
def test_the_decorators_stand_in_any_order(above: bool) -> None:
    def answer(body: object, room: str) -> str:
        return room

    mapping, sending = message_mapping("/chat/{room}"), send_to("/topic/chat.{room}")
    sending(mapping(answer)) if above else mapping(sending(answer))
    assert mappings.declared()[0].destinations() == ("/topic/chat.{room}",)


@pytest.mark.parametrize("above", [True, False])
def test_an_answer_to_an_unknown_variable_is_refused(above: bool) -> None:
    def answer(body: object) -> None: ...

    mapping, sending = message_mapping("/chat"), send_to("/topic/chat.{room}")
    with pytest.raises(InvalidValue, match="room"):
        sending(mapping(answer)) if above else mapping(sending(answer))


@pytest.mark.parametrize("destinations", [(), ("/queue/x",), ("topic/x",), (7,)])
def test_an_answer_goes_to_topics_and_users(destinations: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidValue):
        send_to(*destinations)


class Unknown:
    """Nothing that JSON could become."""


def _many(*args: object) -> None: ...
def _extra(body: object, other: object) -> None: ...
def _positional(body: object, /) -> None: ...
def _generator(body: object) -> Iterator[int]:
    yield 1


def _strange(body: Unknown) -> None: ...


@pytest.mark.parametrize("function", [_many, _extra, _positional, _generator, _strange, print, Unknown])
def test_a_function_that_cannot_be_called_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(InvalidType):
        message_mapping("/x")(function)


def test_a_forgotten_mapping_is_gone() -> None:
    @message_mapping("/gone")
    def handler(body: object) -> None: ...

    mappings.forget(["/gone"])
    assert mappings.find("/gone") is None
