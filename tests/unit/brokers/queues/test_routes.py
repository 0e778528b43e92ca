"""The way through exchanges: alternates, exchanges bound to exchanges, cycles, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokers.errors import ExchangeNotFound
from brokers.queues import routes
from brokers.queues.declared import NOTHING, BindingInfo, ExchangeInfo, QueueInfo, Settings, effective
from brokers.queues.routing import comparable, words
from brokers.queues.topology import Topology


def queue(number: int, name: str) -> QueueInfo:
    return QueueInfo(
        id=number,
        name=name,
        max_priority=None,
        message_ttl_ms=None,
        expires_ms=None,
        max_length=None,
        overflow="drop-head",
        dead_letter_exchange=None,
        dead_letter_routing_key=None,
        delivery_limit=20,
        single_active_consumer=False,
        dead_letters="unrouted",
        paused=False,
        temporary=False,
        policy=None,
    )


class Built:
    """A topology of the queues `q1` to `q4` that a test puts together."""

    def __init__(self) -> None:
        self.exchanges: list[ExchangeInfo] = []
        self.bindings: list[BindingInfo] = []

    def exchange(self, name: str, kind: str = "direct", alternate: str | None = None) -> Built:
        self.exchanges.append(ExchangeInfo(len(self.exchanges) + 1, name, kind, alternate))
        return self

    def bind(self, source: str, target: str, key: str = "", arguments: dict[str, Any] | None = None) -> Built:
        to_queue = target.startswith("q")
        self.bindings.append(
            BindingInfo(
                len(self.bindings) + 1,
                source,
                target if to_queue else None,
                None if to_queue else target,
                key,
                arguments or {},
            )
        )
        return self

    def topology(self) -> Topology:
        return Topology(1, self.exchanges, [queue(number, f"q{number}") for number in range(1, 5)], self.bindings)

    def route(self, exchange: str, *keys: str, headers: dict[str, Any] | None = None) -> list[str]:
        topology = self.topology()
        reached = [queue.name for queue in topology.route(exchange, keys or ("",), headers)]
        again = [queue.name for queue in topology.route(exchange, keys or ("",), headers)]
        explained = [queue.name for queue in topology.explain(exchange, keys or ("",), headers).queues]
        assert reached == again == explained
        return reached


def test_the_default_exchange_leads_to_the_queue_of_the_keys_name() -> None:
    built = Built()
    assert built.route("", "q2") == ["q2"]
    assert built.route("", "nothing") == []
    assert built.route("", "q3", "q1", "nothing", "q3") == ["q1", "q3"]


def test_an_exchange_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ExchangeNotFound, match="there is no exchange 'gone'"):
        Built().route("gone", "q1")


def test_each_type_matches_by_its_own_rule() -> None:
    built = Built().exchange("d").exchange("t", "topic").exchange("f", "fanout").exchange("h", "headers")
    built.bind("d", "q1", "a.b").bind("t", "q2", "a.*").bind("f", "q3", "never").bind("h", "q4", "never", {"a": 1})
    assert built.route("d", "a.b") == ["q1"]
    assert built.route("d", "a.*") == []
    assert built.route("t", "a.b") == ["q2"]
    assert built.route("f", "a.b") == ["q3"]
    assert built.route("h", "a.b", headers={"a": 1}) == ["q4"]
    assert built.route("h", "never") == []


def test_a_queue_is_reached_once_however_many_bindings_match() -> None:
    built = Built().exchange("t", "topic").exchange("f", "fanout")
    built.bind("t", "q1", "a.#").bind("t", "q1", "#.b").bind("t", "q1", "a.b").bind("t", "f", "#").bind("f", "q1")
    assert built.route("t", "a.b") == ["q1"]
    assert len(built.topology().explain("t", ["a.b"]).hops) == 5


def test_queues_come_in_the_order_of_their_ids() -> None:
    built = Built().exchange("f", "fanout").bind("f", "q4").bind("f", "q1").bind("f", "q3")
    assert built.route("f") == ["q1", "q3", "q4"]


def test_exchanges_bound_in_a_circle_are_visited_once_each() -> None:
    built = Built().exchange("a", "fanout").exchange("b", "fanout").exchange("c", "topic")
    built.bind("a", "b").bind("b", "c").bind("c", "a", "#").bind("a", "a").bind("c", "q1", "x").bind("b", "q2")
    for start in "abc":
        assert built.route(start, "x") == ["q1", "q2"]
    assert built.route("a", "y") == ["q2"]


def test_several_keys_reach_what_any_of_them_reaches() -> None:
    built = Built().exchange("d").bind("d", "q1", "a").bind("d", "q2", "b").bind("d", "q3", "c")
    assert built.route("d", "a", "c") == ["q1", "q3"]


def test_the_alternate_exchange_is_asked_when_no_binding_matched() -> None:
    built = Built().exchange("d", alternate="f").exchange("f", "fanout").bind("d", "q1", "a").bind("f", "q2")
    assert built.route("d", "a") == ["q1"]
    assert built.route("d", "b") == ["q2"]


def test_a_binding_to_an_exchange_that_leads_nowhere_is_a_match() -> None:
    built = Built().exchange("d", alternate="f").exchange("f", "fanout").exchange("dead end")
    built.bind("d", "dead end", "a").bind("f", "q1")
    assert built.route("d", "a") == []


def test_alternates_are_followed_to_the_end_and_loops_cut() -> None:
    built = Built().exchange("a", alternate="b").exchange("b", alternate="c").exchange("c", alternate="a")
    built.bind("c", "q1", "found")
    assert built.route("a", "found") == ["q1"]
    assert built.route("a", "lost") == []
    assert Built().exchange("self", alternate="self").route("self", "x") == []


def test_an_alternate_exchange_that_is_not_there_or_the_default_one_leads_nowhere() -> None:
    assert Built().exchange("a", alternate="gone").route("a", "q1") == []
    assert Built().exchange("a", alternate="").route("a", "q1") == []


def test_an_exchange_reached_through_another_has_its_own_alternate() -> None:
    built = Built().exchange("a", "fanout").exchange("b", alternate="c").exchange("c", "fanout")
    built.bind("a", "b").bind("a", "q1").bind("c", "q2")
    assert built.route("a", "x") == ["q1", "q2"]


def test_headers_decide_behind_other_exchanges_however_often_they_are_asked() -> None:
    built = Built().exchange("t", "topic", alternate="h").exchange("h", "headers")
    built.bind("h", "q1", "", {"a": 1}).bind("h", "q2", "", {"a": "x", "x-match": "any", "b": [1]})
    topology = built.topology()

    def reached(headers: dict[str, Any]) -> list[str]:
        return [queue.name for queue in topology.route("t", ["k"], headers)]

    for _ in range(2):
        assert reached({"a": 1}) == ["q1"]
        assert reached({"a": True}) == []
        assert reached({"a": "x"}) == ["q2"]
        assert reached({"b": [1], "other": "y"}) == ["q2"]
        assert reached({"b": [2]}) == []
        assert reached({}) == []


def test_an_explanation_names_each_binding_on_the_way_and_why() -> None:
    built = Built().exchange("t", "topic", alternate="f").exchange("f", "fanout").bind("t", "q1", "a.*").bind("f", "q2")
    direct = built.topology().explain("t", ["a.b"]).hops
    assert [(hop.exchange, hop.queue, hop.binding.id if hop.binding else None, hop.why) for hop in direct] == [
        ("t", "q1", 1, "the routing key fits the binding key")
    ]
    around = built.topology().explain("t", ["x"]).hops
    assert [(hop.exchange, hop.queue, hop.to_exchange) for hop in around] == [("t", None, "f"), ("f", "q2", None)]
    assert around[0].why == "no binding fits 'x': the alternate exchange is asked"
    assert built.topology().explain("", ["q3"]).hops[0].why == "the routing key is the queue's name"


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MEMORY", 100)
    topology = Built().exchange("f", "fanout").bind("f", "q1").bind("f", "q2").topology()
    for number in range(1000):
        assert len(topology.route("f", [f"key {number}"])) == 2
        memory = topology._routes._memory
        assert sum(1 + len(reached) for reached in memory.values()) <= 100
    before = len(memory)
    topology.route("f", [f"{number}" * 100 for number in range(10)])
    assert len(memory) == before


names = st.sampled_from(["e1", "e2", "e3", "e4"])
kinds = st.sampled_from(["direct", "topic", "fanout", "headers"])
keys = st.lists(st.sampled_from(["a", "b", "*", "#", ""]), max_size=3).map(".".join)
header_values = st.dictionaries(st.sampled_from("ab"), st.sampled_from([1, True, "1", None]), max_size=2)
arguments = st.tuples(header_values, st.sampled_from(["all", "any"])).map(lambda both: {**both[0], "x-match": both[1]})
links = st.tuples(names, names | st.sampled_from(["q1", "q2", "q3", "q4"]), keys, arguments)


def expected(
    built: dict[str, tuple[str, str | None]],
    bound: Sequence[tuple[str, str, str, dict[str, Any]]],
    start: str,
    key: str,
    headers: dict[str, Any],
) -> list[str]:
    """The rule again, by a walk that looks at every binding."""

    def topic(pattern: list[str], given_words: list[str]) -> bool:
        if not pattern:
            return not given_words
        if pattern[0] == "#":
            return any(topic(pattern[1:], given_words[skip:]) for skip in range(len(given_words) + 1))
        first = bool(given_words) and pattern[0] in ("*", given_words[0])
        return first and topic(pattern[1:], given_words[1:])

    def header(asked: dict[str, Any]) -> bool:
        answers = [
            name in headers and (value is None or comparable(headers[name]) == comparable(value))
            for name, value in asked.items()
            if name != "x-match"
        ]
        return any(answers) if asked["x-match"] == "any" else all(answers)

    reached: set[str] = set()
    seen: list[str] = [start]
    for name in seen:
        kind, alternate = built[name]
        targets = [
            target
            for source, target, bound_key, asked in bound
            if source == name
            and target in (*built, "q1", "q2", "q3", "q4")
            and {
                "direct": bound_key == key,
                "topic": topic(words(bound_key), words(key)),
                "fanout": True,
                "headers": header(asked),
            }[kind]
        ]
        if not targets and alternate in built:
            targets = [alternate]
        reached.update(target for target in targets if target.startswith("q"))
        seen.extend(dict.fromkeys(target for target in targets if target in built and target not in seen))
    return sorted(reached)


@settings(max_examples=300)
@given(
    st.dictionaries(names, st.tuples(kinds, st.none() | names), min_size=1),
    st.lists(links, max_size=10),
    st.lists(st.tuples(keys, header_values), min_size=1, max_size=5),
    st.data(),
)
def test_any_topology_routes_as_a_naive_reading_says(
    exchanges: dict[str, tuple[str, str | None]],
    bound: list[tuple[str, str, str, dict[str, Any]]],
    published: list[tuple[str, dict[str, Any]]],
    data: st.DataObject,
) -> None:
    built = Built()
    for name, (kind, alternate) in exchanges.items():
        built.exchange(name, kind, alternate)
    valid = [link for link in bound if link[0] in exchanges and (link[1] in exchanges or link[1].startswith("q"))]
    for link in valid:
        built.bind(*link)
    topology = built.topology()
    start = data.draw(st.sampled_from(sorted(exchanges)))
    for key, headers in published * 2:
        reached = [queue.name for queue in topology.route(start, [key], headers)]
        assert reached == expected(exchanges, valid, start, key, headers)


# -- policies ------------------------------------------------------------------------------------------------------


def test_of_two_numbers_the_smaller_is_in_effect_and_of_the_rest_the_queues_own() -> None:
    own = Settings(100, None, 10, "reject-publish", None, "k", None)
    policy = Settings(50, 7, 20, "drop-head", "dlx", "other", 5)
    assert effective(own, policy) == Settings(50, 7, 10, "reject-publish", "dlx", "k", 5)
    assert effective(NOTHING, NOTHING) == Settings(None, None, None, "drop-head", None, None, 20)
    assert effective(NOTHING._replace(dead_letter_exchange=""), policy).dead_letter_exchange == ""
    assert effective(NOTHING._replace(message_ttl_ms=0), policy).message_ttl_ms == 0


@pytest.mark.parametrize(
    ("own", "policy", "limit"), [(None, None, 20), (5, None, 5), (None, 50, 50), (5, 50, 5), (-1, 5, 5), (-1, -1, -1)]
)
def test_no_delivery_limit_gives_way_to_a_limit(own: int | None, policy: int | None, limit: int) -> None:
    assert (
        effective(NOTHING._replace(delivery_limit=own), NOTHING._replace(delivery_limit=policy)).delivery_limit == limit
    )
