"""Which partition a record goes to: by its key, or spread when it has none.

`crc32` places a key where librdkafka's default does, `murmur2` where Kafka's Java producer does, so that
clients of either kind agree with us on a key's partition. Publishing calls this once a record that names no
partition itself; how many partitions a topic has is the caller's to know.
"""

from __future__ import annotations

import itertools
import secrets
import struct
import zlib
from collections.abc import Callable

from brokers.errors import InvalidValue, shown

Partitioner = Callable[[bytes, int], int]
"""Takes a key's bytes and a topic's partition count, returns a partition from 0 to count - 1."""

_MASK = 0xFFFFFFFF
_MIX = 0x5BD1E995
_SEED = 0x9747B28C


def crc32_partition(key: bytes, count: int) -> int:
    """The partition of `key` as librdkafka's `consistent` partitioner has it."""
    return zlib.crc32(key) % count


def murmur2(key: bytes) -> int:
    """Kafka's MurmurHash2 of `key` as Java's signed 32-bit integer."""
    size = len(key)
    whole = size & ~3
    value = _SEED ^ (size & _MASK)
    for word in struct.unpack_from(f"<{whole >> 2}I", key):
        mixed = word * _MIX & _MASK
        value = (value * _MIX & _MASK) ^ ((mixed ^ mixed >> 24) * _MIX & _MASK)
    if size != whole:
        value = (value ^ int.from_bytes(key[whole:], "little")) * _MIX & _MASK
    value = (value ^ value >> 13) * _MIX & _MASK
    value ^= value >> 15
    return value - 0x100000000 if value & 0x80000000 else value


def murmur2_partition(key: bytes, count: int) -> int:
    """The partition of `key` as Kafka's Java producer has it."""
    return (murmur2(key) & 0x7FFFFFFF) % count


_BY_NAME: dict[str, Partitioner] = {"crc32": crc32_partition, "murmur2": murmur2_partition}


def named(name: str) -> Partitioner:
    """The partitioner of a topic's declaration: `crc32`, `murmur2`, or one that this process has registered.

    Raises:
        InvalidValue: there is none of that name.
    """
    partitioner = _BY_NAME.get(name)
    if partitioner is None:
        raise InvalidValue(
            f"partitioner {shown(name)} is not known to this process: choose one of {', '.join(_BY_NAME)},"
            " or load the app that declares it",
            pointer="/partitioner",
        )
    return partitioner


def register(name: str, function: Partitioner) -> None:
    """Make a user's `function(key, count)` known by its dotted `name`; its answers are `checked`.

    Registering a name again replaces it, as when a module is loaded anew.

    Raises:
        InvalidValue: `name` is `crc32` or `murmur2`.
    """
    if name in ("crc32", "murmur2"):
        raise InvalidValue(f"the partitioner {name} is built in", pointer="/partitioner")
    _BY_NAME[name] = checked(function)


def checked(function: Partitioner) -> Partitioner:
    """A user's own `function(key, count)` whose answers are checked before a record is placed by them.

    The partitioner returned raises InvalidValue when the function answers anything but a whole number from 0
    to count - 1; what the function itself raises passes through.
    """
    label = getattr(function, "__qualname__", type(function).__name__)

    def place(key: bytes, count: int) -> int:
        answer: object = function(key, count)
        if type(answer) is int and 0 <= answer < count:
            return answer
        raise InvalidValue(
            f"partitioner {label} answered {shown(answer)} for key {shown(key)}:"
            f" a topic of {count} partitions needs a whole number from 0 to {count - 1}"
        )

    return place


class UnkeyedSpread:
    """Spreads records without a key, or with an empty one, evenly over a topic's partitions.

    One by one, round robin, also within one batch: 1000 records over 3 partitions fall 334, 333, 333. Each
    topic has a turn of its own (one turn for all would starve partitions of topics that are published to
    alternately), and it begins at a random partition, so that many short-lived processes do not all begin at
    partition 0. Turns are per process and kept in memory only. Safe to call from several threads without a
    lock: taking the next number of an `itertools.count` is one step under the interpreter's lock.
    """

    def __init__(self) -> None:
        self._turns: dict[str, itertools.count[int]] = {}

    def next_partition(self, topic: str, count: int) -> int:
        """The partition, from 0 to `count` - 1, of the next record of `topic` that has no key."""
        turn = self._turns.get(topic)
        if turn is None:
            turn = self._turns.setdefault(topic, itertools.count(secrets.randbelow(1 << 16)))
        return next(turn) % count

    def forget(self, topic: str) -> None:
        """Drop the turn of a topic that was deleted."""
        self._turns.pop(topic, None)
