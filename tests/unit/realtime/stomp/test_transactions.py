"""What a session holds back between BEGIN and COMMIT, and how much of it."""

from __future__ import annotations

import pytest

from realtime.errors import ProtocolError
from realtime.stomp.frame import Frame
from realtime.stomp.transactions import MAX_BYTES, MAX_FRAMES, MAX_OPEN, Transactions


def named(name: str, command: str = "SEND", body: bytes = b"") -> Frame:
    """A frame of this transaction."""
    return Frame(command, {"transaction": name}, body)


def code_of(act: object, *arguments: object) -> str:
    """The code that a call is refused with."""
    assert callable(act)
    with pytest.raises(ProtocolError) as caught:
        act(*arguments)
    return caught.value.code


def test_frames_come_back_in_order_and_transactions_do_not_mix() -> None:
    transactions = Transactions()
    transactions.begin(named("a", "BEGIN"))
    transactions.begin(named("b", "BEGIN"))
    frames = [named("a", body=b"1"), named("b", body=b"2"), named("a", body=b"3")]
    for frame in frames:
        transactions.add(frame)
    assert transactions.end(named("a", "COMMIT")) == [frames[0], frames[2]]
    assert transactions.end(named("b", "COMMIT")) == [frames[1]]


def test_what_is_not_open_is_refused() -> None:
    transactions = Transactions()
    assert code_of(transactions.add, named("a")) == "unknown_transaction"
    assert code_of(transactions.end, named("a", "ABORT")) == "unknown_transaction"
    transactions.begin(named("a", "BEGIN"))
    transactions.end(named("a", "ABORT"))
    assert code_of(transactions.end, named("a", "COMMIT")) == "unknown_transaction"


def test_a_name_is_needed_and_can_be_open_once() -> None:
    transactions = Transactions()
    assert code_of(transactions.begin, Frame("BEGIN")) == "missing_transaction"
    transactions.begin(named("a", "BEGIN"))
    assert code_of(transactions.begin, named("a", "BEGIN")) == "duplicate_transaction"


def test_only_so_many_are_open() -> None:
    transactions = Transactions()
    for number in range(MAX_OPEN):
        transactions.begin(named(str(number), "BEGIN"))
    assert code_of(transactions.begin, named("more", "BEGIN")) == "too_many_transactions"
    transactions.end(named("0", "ABORT"))
    transactions.begin(named("more", "BEGIN"))


def test_only_so_many_frames_are_held() -> None:
    transactions = Transactions()
    transactions.begin(named("a", "BEGIN"))
    for _ in range(MAX_FRAMES):
        transactions.add(named("a"))
    assert code_of(transactions.add, named("a")) == "transaction_too_large"


def test_only_so_many_bytes_are_held_and_an_end_gives_them_back() -> None:
    transactions = Transactions()
    large = bytes(MAX_BYTES // 2 - 2_000)
    transactions.begin(named("a", "BEGIN"))
    transactions.begin(named("b", "BEGIN"))
    transactions.add(named("a", body=large))
    transactions.add(named("b", body=large))
    assert code_of(transactions.add, named("b", body=large)) == "transaction_too_large"
    other = Transactions()
    for _ in range(5):
        other.begin(named("a", "BEGIN"))
        other.add(named("a", body=large))
        other.end(named("a", "ABORT"))
