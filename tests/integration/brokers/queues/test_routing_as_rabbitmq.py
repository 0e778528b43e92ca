"""The same exchanges, bindings and messages here and in a real RabbitMQ: the same queues are reached.

Skipped where RabbitMQ is not installed (`bench/peers/rabbitmq.sh install`). What its versions disagree on is left out:
numbers of different types in headers, objects in headers, more than two words `#`.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokers.errors import ExchangeNotFound, InvalidValue
from brokers.queues.declared import BindingInfo, ExchangeInfo, QueueInfo, Settings, effective
from brokers.queues.routing import check_binding, routing_keys
from brokers.queues.topology import Topology

pika = pytest.importorskip("pika", reason="pika is not installed")

SCRIPT = Path(__file__).resolve().parents[4] / "bench" / "peers" / "rabbitmq.sh"
QUEUES = ("q1", "q2", "q3", "q4")
SAYS_NOTHING = effective(Settings(*[None] * 7), Settings(*[None] * 7))

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Link:
    """A binding."""

    source: str
    target: str
    key: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Published:
    """A message."""

    exchange: str
    key: str
    headers: dict[str, Any]


class Peer:
    """A channel of a real RabbitMQ with four queues."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._connection = pika.BlockingConnection(pika.ConnectionParameters(host, int(port)))
        self.channel = self._connection.channel()
        self.channel.confirm_delivery()
        for queue in QUEUES:
            self.channel.queue_declare(queue)
        self._rounds = itertools.count()

    def close(self) -> None:
        self._connection.close()

    def reached(
        self, exchanges: dict[str, tuple[str, str | None]], links: list[Link], published: list[Published]
    ) -> list[list[str]]:
        """Which queues each message reached, with all declared anew."""
        prefix = f"r{next(self._rounds)}."
        for name, (kind, alternate) in exchanges.items():
            arguments = {} if alternate is None else {"alternate-exchange": prefix + alternate}
            self.channel.exchange_declare(prefix + name, kind, arguments=arguments)
        for link in links:
            if link.target in QUEUES:
                self.channel.queue_bind(link.target, prefix + link.source, link.key, link.arguments)
            else:
                self.channel.exchange_bind(prefix + link.target, prefix + link.source, link.key, link.arguments)
        for place, message in enumerate(published):
            properties = pika.BasicProperties(headers=message.headers)
            exchange = prefix + message.exchange if message.exchange else ""
            self.channel.basic_publish(exchange, message.key, str(place).encode(), properties)
        found: list[list[str]] = [[] for _ in published]
        for queue in QUEUES:
            while (got := self.channel.basic_get(queue, auto_ack=True))[0] is not None:
                found[int(got[2])].append(queue)
        for name in exchanges:
            self.channel.exchange_delete(prefix + name)
        return found


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """Connected to a broker of this module's own."""
    if subprocess.run([SCRIPT, "installed"], check=False).returncode:
        pytest.skip("RabbitMQ is not installed: bench/peers/rabbitmq.sh install")
    directory = tmp_path_factory.mktemp("rabbitmq")
    address = subprocess.run([SCRIPT, "start", directory], check=True, capture_output=True, text=True).stdout.strip()
    try:
        connected = Peer(address)
        yield connected
        connected.close()
    finally:
        subprocess.run([SCRIPT, "stop", directory], check=True)


def ours(
    exchanges: dict[str, tuple[str, str | None]], links: list[Link], published: list[Published]
) -> list[list[str]]:
    """The same question to the topology."""
    topology = Topology(
        1,
        [ExchangeInfo(n, name, kind, alternate) for n, (name, (kind, alternate)) in enumerate(exchanges.items(), 1)],
        [queue(number, name) for number, name in enumerate(QUEUES)],
        [
            BindingInfo(
                number,
                link.source,
                link.target if link.target in QUEUES else None,
                None if link.target in QUEUES else link.target,
                link.key,
                link.arguments,
            )
            for number, link in enumerate(links)
        ],
    )
    return [
        [
            reached.name
            for reached in topology.route(message.exchange, routing_keys(message.key, message.headers), message.headers)
        ]
        for message in published
    ]


def queue(number: int, name: str) -> QueueInfo:
    return QueueInfo(
        id=number,
        name=name,
        max_priority=None,
        single_active_consumer=False,
        dead_letters="unrouted",
        paused=False,
        temporary=False,
        policy=None,
        **SAYS_NOTHING._asdict(),
    )


names = st.sampled_from(["e1", "e2", "e3", "e4"])
kinds = st.sampled_from(["direct", "topic", "fanout", "headers"])
words = st.sampled_from(["a", "b", "", "*", "ab", "#"])
keys = st.lists(words, max_size=4).map(".".join)
binding_keys = st.lists(words, max_size=4).filter(lambda some: some.count("#") <= 2).map(".".join)
values = st.sampled_from([1, True, "1", "x", None, ["x"], 2**40])
header_names = st.sampled_from(["a", "b", "x-a"])
x_match = st.sampled_from([{}, *({"x-match": kind} for kind in ("all", "any", "all-with-x", "any-with-x"))])
arguments = st.builds(lambda asked, kind: {**asked, **kind}, st.dictionaries(header_names, values, max_size=3), x_match)
links = st.builds(Link, names, names | st.sampled_from(QUEUES), binding_keys, arguments)
headers = st.builds(
    lambda given_, cc: {**given_, **cc},
    st.dictionaries(header_names, values, max_size=3),
    st.dictionaries(st.sampled_from(["CC", "BCC"]), st.lists(keys, max_size=2), max_size=1),
)
messages = st.builds(Published, names | st.just(""), keys | st.sampled_from(QUEUES), headers)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    exchanges=st.dictionaries(names, st.tuples(kinds, st.none() | names), min_size=1, max_size=4),
    bound=st.lists(links, min_size=3, max_size=15),
    published=st.lists(messages, min_size=5, max_size=15),
)
def test_random_bindings_and_keys_reach_the_same_queues(
    peer: Peer, exchanges: dict[str, tuple[str, str | None]], bound: list[Link], published: list[Published]
) -> None:
    there = [link for link in bound if link.source in exchanges and link.target in {*exchanges, *QUEUES}]
    sent = [message for message in published if message.exchange in {*exchanges, ""}]
    assert ours(exchanges, there, sent) == peer.reached(exchanges, there, sent)


@settings(max_examples=40, deadline=None)
@given(bound=st.lists(binding_keys, min_size=1, max_size=4), published=st.lists(keys, min_size=20, max_size=40))
def test_topic_keys_match_as_there(peer: Peer, bound: list[str], published: list[str]) -> None:
    exchanges: dict[str, tuple[str, str | None]] = {"t": ("topic", None)}
    bindings = [Link("t", queue, key, {}) for queue, key in zip(QUEUES, bound, strict=False)]
    sent = [Published("t", key, {}) for key in published]
    assert ours(exchanges, bindings, sent) == peer.reached(exchanges, bindings, sent)


def test_an_alternate_exchange_with_the_default_exchanges_name_leads_nowhere(peer: Peer) -> None:
    peer.channel.exchange_declare("around", "direct", arguments={"alternate-exchange": ""})
    with pytest.raises(pika.exceptions.UnroutableError):
        peer.channel.basic_publish("around", "q1", b"", mandatory=True)
    assert Topology(1, [ExchangeInfo(1, "around", "direct", "")], [queue(1, "q1")]).route("around", ["q1"]) == ()


def test_what_is_refused_is_refused_there(peer: Peer) -> None:
    with pytest.raises(InvalidValue):
        check_binding("headers", "", {"x-match": "some"})
    with pytest.raises(ExchangeNotFound):
        Topology(0).route("gone", ["a"])
    cases: list[tuple[int, Callable[[Any], Any]]] = [
        (406, lambda channel: channel.queue_bind("q1", "amq.headers", "", {"x-match": "some"})),
        (404, lambda channel: channel.queue_bind("q1", "gone", "")),
        (403, lambda channel: channel.queue_bind("q1", "", "k")),
        (403, lambda channel: channel.exchange_delete("")),
    ]
    for code, refused in cases:
        channel = peer._connection.channel()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
            refused(channel)
        assert closed.value.reply_code == code
