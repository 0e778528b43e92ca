"""RabbitMQ's rules of matching, pure: which bindings of one exchange a message fits.

Topic keys are matched by a trie walked with a set of nodes, so that no key and no pattern makes it slow; headers by
the four kinds of `x-match`. Borrowed: the words of topic keys from `rabbit_db_topic_exchange`, headers from
`rabbit_exchange_type_headers`, CC and BCC from RabbitMQ's sender-selected distribution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from brokers.errors import InvalidValue, shown

MAX_KEY_BYTES: Final = 255
"""A routing key or binding key, in UTF-8: a short string of AMQP."""
MAX_HASHES: Final = 2
"""Words `#` in one binding key."""
X_MATCH: Final = "x-match"
X_MATCHES: Final = ("all", "any", "all-with-x", "any-with-x")
CC: Final = "CC"
BCC: Final = "BCC"

T = TypeVar("T")


# -- topic keys ----------------------------------------------------------------------------------------------------


def words(key: str) -> list[str]:
    """The words of a routing key or binding key. The empty key has none; an empty segment is a word."""
    return key.split(".") if key else []


class _Node(Generic[T]):
    __slots__ = ("hash", "is_hash", "items", "literals", "star")

    def __init__(self, is_hash: bool = False) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.star: _Node[T] | None = None
        self.hash: _Node[T] | None = None
        self.is_hash = is_hash
        self.items: list[T] = []


class TopicTrie(Generic[T]):
    """Items by topic binding key: `*` stands for exactly one word, `#` for any number, each only as a whole word."""

    def __init__(self, items: Iterable[tuple[str, T]] = ()) -> None:
        self._root: _Node[T] = _Node()
        for key, item in items:
            self.add(key, item)

    def add(self, binding_key: str, item: T) -> None:
        """Puts `item` where routing keys that fit `binding_key` find it."""
        node = self._root
        for word in words(binding_key):
            if word == "*":
                node.star = node.star or _Node()
                node = node.star
            elif word == "#":
                node.hash = node.hash or _Node(is_hash=True)
                node = node.hash
            else:
                node = node.literals.setdefault(word, _Node())
        node.items.append(item)

    def matching(self, routing_key: str) -> list[T]:
        """All items whose binding keys fit; each as often as it was added."""
        active = _with_hashes([self._root])
        for word in words(routing_key):
            reached: list[_Node[T]] = []
            for node in active:
                if node.is_hash:
                    reached.append(node)
                literal = node.literals.get(word)
                if literal is not None:
                    reached.append(literal)
                if node.star is not None:
                    reached.append(node.star)
            active = _with_hashes(reached)
        return [item for node in active for item in node.items]


def _with_hashes(nodes: list[_Node[T]]) -> list[_Node[T]]:
    """The nodes, each once, and those that a `#` of zero words reaches from them."""
    found = dict.fromkeys(nodes)
    for node in nodes:
        following = node.hash
        while following is not None and following not in found:
            found[following] = None
            following = following.hash
    return list(found)


# -- headers -------------------------------------------------------------------------------------------------------


def comparable(value: Any) -> Any:
    """A header's JSON value in a hashable form, equal when two values are: 1 and 1.0, never 1 and "1" or 1 and true."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, (list, tuple)):
        return ("list", tuple(map(comparable, value)))
    if isinstance(value, Mapping):
        return ("map", frozenset((name, comparable(member)) for name, member in value.items()))
    return value


class HeadersPattern:
    """What a binding to a headers exchange asks of a message's headers."""

    __slots__ = ("_any", "expected")

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        kind = arguments.get(X_MATCH, "all")
        with_x = kind.endswith("-with-x")
        self._any = kind.startswith("any")
        self.expected: list[tuple[str, Any]] = [
            (name, comparable(value))
            for name, value in arguments.items()
            if name != X_MATCH and (with_x or not name.startswith("x-"))
        ]
        """Names and comparable values; None where the header need only be there."""

    def fits(self, headers: Mapping[str, Any]) -> bool:
        """Whether these headers, with comparable values, fit. Nothing asked for: `all` fits all, `any` none."""
        found = (name in headers and (value is None or headers[name] == value) for name, value in self.expected)
        return any(found) if self._any else all(found)


# -- keys ----------------------------------------------------------------------------------------------------------


def routing_keys(routing_key: str, headers: Mapping[str, Any] | None) -> tuple[str, ...]:
    """All keys that a message is routed by: its own, then those of the headers CC and BCC, each once.

    Raises `InvalidValue` unless CC and BCC are lists of text.
    """
    if not headers or (CC not in headers and BCC not in headers):
        return (routing_key,)
    keys = [routing_key]
    for name in (CC, BCC):
        further = headers.get(name, ())
        if not isinstance(further, (list, tuple)) or not all(isinstance(key, str) for key in further):
            raise InvalidValue(f"header {name} must be a list of routing keys", pointer=f"/headers/{name}")
        for key in further:
            check_key(key, pointer=f"/headers/{name}")
        keys.extend(further)
    return tuple(dict.fromkeys(keys))


def without_bcc(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers as consumers see them: BCC is for routing alone."""
    return {name: value for name, value in headers.items() if name != BCC}


def check_key(key: object, *, pointer: str = "/routing_key") -> str:
    """Answers `key` when it may be a routing key or binding key; else raises `InvalidValue`."""
    if not isinstance(key, str):
        raise InvalidValue(f"a routing key is text, not {type(key).__name__}", pointer=pointer)
    if "\x00" in key:
        raise InvalidValue("a routing key cannot hold the character NUL", pointer=pointer)
    try:
        size = len(key) if key.isascii() else len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{shown(key)} is not valid Unicode", pointer=pointer) from error
    if size > MAX_KEY_BYTES:
        raise InvalidValue(f"a routing key has at most {MAX_KEY_BYTES} bytes, not {size}", pointer=pointer)
    return key


def check_binding(exchange_type: str, routing_key: str, arguments: Mapping[str, Any]) -> None:
    """Raises `InvalidValue` for a binding that RabbitMQ refuses to an exchange of this type."""
    check_key(routing_key)
    if exchange_type == "topic":
        hashes = words(routing_key).count("#")
        if hashes > MAX_HASHES:
            raise InvalidValue(
                f"the binding key has {hashes} words '#'; at most {MAX_HASHES} are allowed", pointer="/routing_key"
            )
    if exchange_type == "headers":
        kind = arguments.get(X_MATCH, "all")
        if kind not in X_MATCHES:
            raise InvalidValue(
                f"x-match must be one of {', '.join(X_MATCHES)}, not {shown(kind)}", pointer=f"/arguments/{X_MATCH}"
            )


def naming(keys: Sequence[str]) -> str:
    """Routing keys as people read them in an explanation."""
    return ", ".join(repr(key) for key in keys)
