"""The way of a message through exchanges to queues, as RabbitMQ walks it. Pure; built once for each topology.

From an exchange go its matching bindings to queues and to other exchanges, each of which is visited once; the alternate
exchange is asked only when no binding of the exchange's own matched. Borrowed from `rabbit_exchange:route`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from brokers.errors import ExchangeNotFound, shown
from brokers.queues.declared import DEFAULT_EXCHANGE, BindingInfo, ExchangeInfo, QueueInfo
from brokers.queues.routing import HeadersPattern, TopicTrie, comparable, naming

MEMORY: Final = 100_000
"""Routes remembered: each counts one, and one more for each queue it leads to."""
_LONGEST: Final = 512
"""Characters of keys and header values of a route that is remembered."""
_MOST_HEADERS: Final = 32

_Key = tuple[str, tuple[str, ...], tuple[Any, ...]]
_ABSENT: Final = ("absent",)


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a message: from an exchange by a binding, to its alternate exchange, or to the queue of that name."""

    exchange: str
    queue: str | None
    to_exchange: str | None
    binding: BindingInfo | None
    why: str


class _Table(Protocol):
    """The bindings of one exchange, ready to be matched."""

    def matching(self, keys: Sequence[str], headers: Mapping[str, Any]) -> list[BindingInfo]:
        """Those that match, each once; `headers` hold comparable values."""


class _Direct:
    def __init__(self, bindings: Iterable[BindingInfo]) -> None:
        self._by_key: dict[str, list[BindingInfo]] = {}
        for binding in bindings:
            self._by_key.setdefault(binding.routing_key, []).append(binding)

    def matching(self, keys: Sequence[str], headers: Mapping[str, Any]) -> list[BindingInfo]:
        return [binding for key in keys for binding in self._by_key.get(key, ())]


class _Topic:
    def __init__(self, bindings: Iterable[BindingInfo]) -> None:
        self._trie = TopicTrie((binding.routing_key, binding) for binding in bindings)

    def matching(self, keys: Sequence[str], headers: Mapping[str, Any]) -> list[BindingInfo]:
        if len(keys) == 1:
            return self._trie.matching(keys[0])
        return list(dict.fromkeys(binding for key in keys for binding in self._trie.matching(key)))


class _Fanout:
    def __init__(self, bindings: Iterable[BindingInfo]) -> None:
        self._bindings = list(bindings)

    def matching(self, keys: Sequence[str], headers: Mapping[str, Any]) -> list[BindingInfo]:
        return self._bindings


class _Headers:
    def __init__(self, bindings: Iterable[BindingInfo]) -> None:
        self.patterns = [(HeadersPattern(binding.arguments), binding) for binding in bindings]

    def matching(self, keys: Sequence[str], headers: Mapping[str, Any]) -> list[BindingInfo]:
        return [binding for pattern, binding in self.patterns if pattern.fits(headers)]


_TABLES: Final[Mapping[str, Callable[[Iterable[BindingInfo]], _Table]]] = {
    "direct": _Direct,
    "topic": _Topic,
    "fanout": _Fanout,
    "headers": _Headers,
}
_WHY: Final = {
    "direct": "the routing key is the binding key",
    "topic": "the routing key fits the binding key",
    "fanout": "a fanout exchange sends to all",
    "headers": "the headers fit the arguments",
}


class Routes:
    """Answers which queues a message reaches, and remembers it, within bounds. Safe to share among threads."""

    def __init__(
        self,
        exchanges: Mapping[str, ExchangeInfo],
        queues: Mapping[str, QueueInfo],
        bindings: Mapping[str, Sequence[BindingInfo]],
    ) -> None:
        self._exchanges = exchanges
        self._queues = queues
        self._bindings = bindings
        self._tables: dict[str, _Table] = {}
        self._header_names: dict[str, tuple[str, ...]] = {}
        self._memory: dict[_Key, tuple[QueueInfo, ...]] = {}
        self._weight = 0

    def route(self, exchange: str, keys: Sequence[str], headers: Mapping[str, Any]) -> tuple[QueueInfo, ...]:
        """The queues that a message reaches, each once, by ascending id. Raises `ExchangeNotFound`."""
        key = self._memory_key(exchange, keys, headers)
        if key is not None:
            found = self._memory.get(key)
            if found is not None:
                return found
        names = {hop.queue for hop in self.hops(exchange, keys, headers) if hop.queue is not None}
        reached = tuple(sorted((self._queues[name] for name in names), key=lambda queue: queue.id))
        if key is not None:
            self._remember(key, reached)
        return reached

    def hops(self, exchange: str, keys: Sequence[str], headers: Mapping[str, Any]) -> Iterator[Hop]:
        """Each step on the way, exchange by exchange. Raises `ExchangeNotFound` if the first one is not there."""
        if exchange and exchange not in self._exchanges:
            raise ExchangeNotFound(f"there is no exchange {shown(exchange)}")
        values = {name: comparable(value) for name, value in headers.items()} if headers else {}
        waiting, seen = [exchange], {exchange}
        while waiting:
            for hop in self._hops_from(waiting.pop(), keys, values):
                yield hop
                if hop.to_exchange is not None and hop.to_exchange not in seen:
                    seen.add(hop.to_exchange)
                    waiting.append(hop.to_exchange)

    def _hops_from(self, name: str, keys: Sequence[str], headers: Mapping[str, Any]) -> Iterator[Hop]:
        if name == DEFAULT_EXCHANGE.name:
            for key in dict.fromkeys(keys):
                if key in self._queues:
                    yield Hop(name, key, None, None, "the routing key is the queue's name")
            return
        exchange = self._exchanges[name]
        matching = self._table(exchange).matching(keys, headers)
        for binding in matching:
            yield Hop(name, binding.queue, binding.to_exchange, binding, _WHY[exchange.type])
        alternate = exchange.alternate_exchange
        if not matching and alternate is not None and alternate in self._exchanges:
            yield Hop(name, None, alternate, None, f"no binding fits {naming(keys)}: the alternate exchange is asked")

    def _table(self, exchange: ExchangeInfo) -> _Table:
        found = self._tables.get(exchange.name)
        if found is None:
            found = self._tables[exchange.name] = _TABLES[exchange.type](self._bindings.get(exchange.name, ()))
        return found

    # -- what is remembered

    def _memory_key(self, exchange: str, keys: Sequence[str], headers: Mapping[str, Any]) -> _Key | None:
        """What the route depends on; None when that is too much to remember."""
        names = self._header_names.get(exchange)
        if names is None:
            names = self._header_names[exchange] = self._names_of_headers(exchange)
        if len(names) > _MOST_HEADERS or sum(map(len, keys)) > _LONGEST:
            return None
        if not names:
            return exchange, tuple(keys), ()
        values = tuple(comparable(headers[name]) if name in headers else _ABSENT for name in names)
        if any(isinstance(value, tuple) and value[0] in ("list", "map") for value in values):
            return None
        if sum(len(value) for value in values if isinstance(value, str)) > _LONGEST:
            return None
        return exchange, tuple(keys), values

    def _names_of_headers(self, exchange: str) -> tuple[str, ...]:
        """The headers that any exchange reachable from this one looks at."""
        waiting, seen = [exchange], {exchange}
        names: set[str] = set()
        while waiting:
            info = self._exchanges.get(waiting.pop())
            if info is None:
                continue
            if info.type == "headers":
                table = self._table(info)
                assert isinstance(table, _Headers)
                names.update(name for pattern, _ in table.patterns for name, _ in pattern.expected)
            bound = {binding.to_exchange for binding in self._bindings.get(info.name, ())}
            further = {name for name in (*bound, info.alternate_exchange) if name is not None} - seen
            seen |= further
            waiting.extend(further)
        return tuple(sorted(names))

    def _remember(self, key: _Key, reached: tuple[QueueInfo, ...]) -> None:
        self._weight += 1 + len(reached)
        if self._weight > MEMORY:
            self._memory.clear()
            self._weight = 1 + len(reached)
        self._memory[key] = reached
