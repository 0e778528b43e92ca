"""Which failures are the same: what a fingerprint looks at, what it passes over, and that it stays what it is."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers import fingerprint
from brokers.failure import Failure, Frame, describe
from brokers.fingerprint import MAX_TEXT, VERSION, of, stripped


def failing(message: str = "no plane 'N14228' at 12:30", **changes: object) -> Failure:
    frames = (
        Frame("/srv/brokers/listeners/delivery.py", 10, "brokers.listeners.delivery", "call", False),
        Frame("/srv/shop/messaging.py", 20, "shop.messaging", "on_departure", True),
        Frame("/srv/shop/totals.py", 30, "shop.totals", "Totals.add", True),
        Frame("/usr/lib/python3.11/json/decoder.py", 40, "json.decoder", "decode", False),
    )
    return Failure("shop.errors.NoPlane", message, "Traceback ...", frames, "")._replace(**changes)  # type: ignore[arg-type]


FAILED = failing()


def digest(failure: Failure | None = FAILED, **changes: object) -> str:
    asked = {
        "source_kind": "topic",
        "source": "departures",
        "group": "delays",
        "handler": "shop.messaging.on_departure",
        "failure": failure,
        "reason": "exception",
    }
    return of(**(asked | changes)).digest  # type: ignore[arg-type]


def test_a_fingerprint_says_what_it_was_made_of() -> None:
    found = of("topic", "departures", "delays", "shop.messaging.on_departure", failing(), "exception")
    assert found.version == VERSION == 1
    assert found.frame == "shop.totals:Totals.add"
    assert found.message == "no plane '*' at <time>"
    assert len(found.digest) == 64


def test_digests_stay_what_they_are() -> None:
    """They are stored. If one of these changes, so must VERSION."""
    assert digest() == "71da852fa04e3b4b3e3b44956da7689b515ed205e5200fb81af468cf42bb7cdf"
    assert (
        digest(failure=None, reason="worker_lost") == "40b37c57c2f669639b62b3affc5bc9c92fa11ba45c23d4d82aa3e670c0fcf0a2"
    )
    assert digest(failing("", frames=())) == "0e67ed36687da48c26a9325194895472023dccc8e2e5de091cc2e12d8cdffad9"
    assert (
        digest(source_kind="queue", group="", source="rebooking")
        == "998d688bef2a007b8fe2600e4ac980b9c2cccc9b3e13941a9ffbc17b4ef84788"
    )


@pytest.mark.parametrize(
    "other",
    [
        digest(source="arrivals"),
        digest(source_kind="queue"),
        digest(group="billing"),
        digest(handler="shop.messaging.other"),
        digest(failing(exception_class="builtins.KeyError")),
        digest(failing("no pilot 'N14228' at 12:30")),
        digest(failing(frames=failing().frames[:2])),
        digest(failing(frames=())),
        digest(failure=None),
    ],
)
def test_another_place_or_another_way_is_another_failure(other: str) -> None:
    assert other != digest()


def test_neither_lines_nor_files_nor_reasons_count() -> None:
    moved = tuple(frame._replace(line=frame.line + 7, file=f"/app{frame.file}") for frame in failing().frames)
    deeper = (*failing().frames, Frame("/x/site-packages/orm.py", 3, "orm", "query", False))
    for same in (
        digest(failing(frames=moved)),
        digest(failing(frames=deeper)),
        digest(failing(cause_class="builtins.KeyError", stacktrace="another")),
        digest(reason="attempts_exhausted"),
    ):
        assert same == digest()


def test_without_a_failure_the_reason_decides() -> None:
    found = of("topic", "t", "g", "h", None, "worker_lost")
    assert (found.frame, found.message) == ("", "")
    assert found.digest != of("topic", "t", "g", "h", None, "expired").digest


def test_parts_do_not_run_into_one_another() -> None:
    assert digest(source="ab", group="c") != digest(source="a", group="bc")


@pytest.mark.parametrize(
    ("message", "left"),
    [
        ("", ""),
        ("connection refused", "connection refused"),
        ("flight UA1545 took 227 minutes", "flight UA# took # minutes"),
        ("total is -5.50, not 1,200.75 or 1e-9", "total is #, not # or #"),
        ("x=-5", "x=#"),
        ("x=5", "x=#"),
        ("rows 3-5", "rows #-#"),
        ("keys [1, 2, 3] are missing", "keys [#] are missing"),
        ("keys ['a', 'b'] are missing", "keys ['*'] are missing"),
        ("'dep_time'", "'*'"),
        ('no column "dep_time"', "no column '*'"),
        ("no column `dep_time`", "no column '*'"),
        ("no column \u201cdep_time\u201d or \u00abx\u00bb", "no column '*' or '*'"),
        ("bad bytes b'\\xff\\'x'", "bad bytes '*'"),
        ("name 'O'Brien' unknown", "name '*' unknown"),
        ("can't find it, don't ask", "can't find it, don't ask"),
        ("rock 'n roll has 5 parts", "rock 'n roll has # parts"),
        ("order 7f9c24e8-3b12-4fa5-9c1d-0a1b2c3d4e5f gone", "order <uuid> gone"),
        ("etag deadbeef01 at 0x7F00aa", "etag # at #"),
        ("mail to Ann.Lee+x@example.co.uk failed", "mail to <email> failed"),
        ("host 10.0.0.1:8080 refused", "host #:# refused"),
        ("host 2001:db8::ff00:42:8329 refused", "host <ip> refused"),
        ("host fe80::1 refused", "host <ip> refused"),
        ("at 2013-01-01T05:00:00Z", "at <time>"),
        ("at 2013-01-01 05:00:00.123+01:00", "at <time>"),
        ("on 2013-01-01", "on <time>"),
        ("at 05:15", "at <time>"),
        ("at 05:15:30.5", "at <time>"),
        ("two\nlines \t and  more", "two lines and more"),
        ("std::vector is empty", "std::vector is empty"),
        ("feedface failed", "# failed"),
        ("a\u0663b \u0664\u0662", "a#b #"),
    ],
)
def test_what_is_taken_out_of_a_message(message: str, left: str) -> None:
    assert stripped(message) == left


def test_a_quoted_part_that_was_cut_off_goes_on_to_the_end() -> None:
    long = describe(ValueError(f"bad payload '{'x' * 20_000}' in topic"))
    longer = describe(ValueError(f"bad payload '{'y' * 30_000}' in topic"))
    assert stripped(long.message) == stripped(longer.message) == "bad payload '*'"


words = st.text(string.ascii_lowercase + " ", min_size=1, max_size=12).filter(
    lambda word: not set(word) <= set("abcdef ")
)
numbers = st.one_of(
    st.integers(-(10**12), 10**12).map(str), st.floats(allow_nan=False, allow_infinity=False).map(repr), st.just("0x1f")
)
quoted = st.text(st.characters(exclude_characters="'\\"), max_size=20).map(lambda text: f"'{text}'")
uuids = st.uuids().map(str)
addresses = st.ip_addresses(v=4).map(str)
hexes = st.binary(min_size=8, max_size=32).map(bytes.hex).filter(lambda text: not text.isdigit())
varying = [numbers, quoted, uuids, addresses, hexes]


@st.composite
def two_messages(draw: st.DrawFn) -> tuple[str, str]:
    """The same message twice, its numbers, quoted parts and so on drawn anew."""
    one = other = ""
    for _ in range(draw(st.integers(1, 5))):
        kind = varying[draw(st.integers(0, len(varying) - 1))]
        word = draw(words)
        one += f"{word} {draw(kind)} "
        other += f"{word} {draw(kind)} "
    return one, other


@given(two_messages())
def test_messages_that_differ_in_their_numbers_and_quoted_parts_alone_are_the_same(messages: tuple[str, str]) -> None:
    one, other = messages
    assert stripped(one) == stripped(other)
    assert digest(failing(one)) == digest(failing(other))


@given(words, words)
def test_messages_that_differ_in_their_words_are_not(one: str, other: str) -> None:
    same = " ".join(one.split()) == " ".join(other.split())
    assert (digest(failing(one)) == digest(failing(other))) == same


@given(st.text(max_size=200))
def test_whatever_the_message_what_is_left_is_short_and_one_line(message: str) -> None:
    found = stripped(message)
    assert len(found) <= MAX_TEXT
    assert found.split() == found.split(" ") or found == ""
    assert found == stripped(message)


names = st.text(string.ascii_letters, min_size=1, max_size=5)


@given(st.tuples(names, names, names, names, names), st.tuples(names, names, names, names, names))
def test_a_digest_is_the_same_exactly_where_all_its_parts_are(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    def of_parts(source: str, group: str, handler: str, kind: str, function: str) -> str:
        frames = (Frame("/x.py", 1, "shop", function, True),)
        failure = failing(exception_class=kind, frames=frames)
        return digest(failure, source=source, group=group, handler=handler)

    assert (of_parts(*one) == of_parts(*other)) == (one == other)


@pytest.mark.parametrize(
    "unit", [" 'a", "'", " '", '"', "1:", "a@", "0x", "deadbee ", "1,", "2013-01-01T", ":", "\u201c", "1e", "b'", "#, "]
)
def test_no_message_takes_long(unit: str) -> None:
    message = (unit * 8192)[:8192]
    began = time.thread_time()
    stripped(message)
    assert time.thread_time() - began < 1.0


def test_a_long_frame_is_cut() -> None:
    frames = (Frame("/x.py", 1, "m" * 400, "f" * 400, True),)
    assert len(of("topic", "t", "g", "h", failing(frames=frames), "exception").frame) == MAX_TEXT
    assert fingerprint.innermost_own(failing(frames=())) == ""
