"""What the decoder makes of bytes: vectors of other implementations, its own limits, and every way to cut its input."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from realtime.errors import ProtocolError
from realtime.stomp.decoder import BEFORE_LOGIN, Decoder, Limits
from realtime.stomp.encoder import encode
from realtime.stomp.frame import CLIENT_COMMANDS, SERVER_COMMANDS, WITH_BODY, Frame

SMALL = Limits(head=64, body=16, line=24, headers=3)


def decoded(data: bytes, version: str = "1.2") -> list[Frame]:
    """The frames of these bytes, which are whole."""
    decoder = Decoder(commands=CLIENT_COMMANDS | SERVER_COMMANDS)
    decoder.version = version
    return list(decoder.feed(data))


def refused(data: bytes, version: str = "1.2", limits: Limits | None = None) -> str:
    """The code of the error that these bytes are refused with."""
    decoder = Decoder(limits or Limits())
    decoder.version = version
    with pytest.raises(ProtocolError) as caught:
        list(decoder.feed(data))
    return caught.value.code


def outcome(pieces: Iterable[bytes], limits: Limits) -> tuple[list[Frame], str | None]:
    """Frames and the code of the error after them."""
    decoder, frames = Decoder(limits), list[Frame]()
    try:
        for piece in pieces:
            frames.extend(decoder.feed(piece))
            assert decoder.buffered <= limits.head + limits.body + 8
    except ProtocolError as error:
        return frames, error.code
    return frames, None


# -- vectors of Spring's StompDecoderTests ------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"DISCONNECT\n\n\0", b"DISCONNECT\r\n\r\n\0"])
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_lines_end_in_lf_or_crlf_in_every_version(data: bytes, version: str) -> None:
    assert decoded(data, version) == [Frame("DISCONNECT")]


def test_headers_without_a_body() -> None:
    frames = decoded(b"CONNECT\naccept-version:1.1\nhost:github.org\n\n\0")
    assert frames == [Frame("CONNECT", {"accept-version": "1.1", "host": "github.org"})]


def test_a_body_without_a_length_ends_at_the_first_nul() -> None:
    frames = decoded(b"SEND\ndestination:test\n\nThe body of the message\0")
    assert frames == [Frame("SEND", {"destination": "test"}, b"The body of the message")]


def test_a_body_with_a_length_may_hold_nuls() -> None:
    frames = decoded(b"SEND\ncontent-length:23\n\nThe b\0dy \0f the message\0")
    assert frames[0].body == b"The b\0dy \0f the message"


def test_names_and_values_are_unescaped() -> None:
    frames = decoded(b"DISCONNECT\na\\c\\r\\n\\\\b:alpha\\cbravo\\r\\n\\\\\n\n\0")
    assert frames[0].headers == {"a:\r\n\\b": "alpha:bravo\r\n\\"}


def test_several_frames_and_ends_of_lines_between_them() -> None:
    frames = decoded(b"SEND\ndestination:test\n\nbody\0\n\r\n\nDISCONNECT\n\n\0\n")
    assert [frame.command for frame in frames] == ["SEND", "DISCONNECT"]


def test_a_heart_beat_is_no_frame() -> None:
    assert decoded(b"\n") == []
    assert decoded(b"\r\n") == []


def test_a_value_may_be_empty() -> None:
    assert decoded(b"DISCONNECT\nkey:\n\n\0")[0].headers == {"key": ""}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"SEND\ncontent-length:23\n\nThe body of the message*", "malformed_frame"),
        (b"CONNECT\naccept-version:1.2\n\nThe body of the message\0", "malformed_frame"),
        (b"DISCONNECT\n:value\n\n\0", "malformed_header"),
        (b"DISCONNECT\nkey\n\n\0", "malformed_header"),
        (b"DISCONNECT\nkey:\\t\n\n\0", "malformed_header"),
        (b"DISCONNECT\nkey:value\\\n\n\0", "malformed_header"),
    ],
)
def test_what_spring_refuses(data: bytes, code: str) -> None:
    assert refused(data) == code


# -- vectors of RabbitMQ's frame_SUITE -----------------------------------------------------------------------------


def test_of_a_repeated_header_the_first_counts() -> None:
    assert decoded(b"CONNECT\nheader:correct\nheader:incorrect\n\n\0")[0].headers == {"header": "correct"}


def test_a_value_may_hold_colons() -> None:
    assert decoded(b"CONNECT\nheader:val:ue\n\n\0")[0].headers == {"header": "val:ue"}


def test_a_carriage_return_in_a_name_is_refused() -> None:
    assert refused(b"CONNECT\nhead\rer:val\n\n\0") == "malformed_header"


def test_nuls_between_frames_are_skipped() -> None:
    assert decoded(b"\0\0DISCONNECT\n\n\0\0") == [Frame("DISCONNECT")]


# -- the versions --------------------------------------------------------------------------------------------------


def test_an_escaped_backslash_is_not_read_twice() -> None:
    assert decoded(b"SEND\na:\\\\n\n\n\0")[0].headers == {"a": "\\n"}


def test_a_carriage_return_has_no_escape_before_1_2() -> None:
    assert refused(b"SEND\na:x\\r\n\n\0", "1.1") == "malformed_header"
    assert decoded(b"SEND\na:\\n\\c\\\\\n\n\0", "1.1")[0].headers == {"a": "\n:\\"}


def test_1_0_knows_no_escapes_and_allows_a_space_after_the_colon() -> None:
    assert decoded(b"SEND\ndestination: /queue/a\\nb \n\n\0", "1.0")[0].headers == {"destination": "/queue/a\\nb "}


def test_later_versions_trim_nothing() -> None:
    assert decoded(b"SEND\na: b \n\n\0")[0].headers == {"a": " b "}


def test_connect_is_not_unescaped() -> None:
    assert decoded(b"CONNECT\npasscode:a\\cb\\x\n\n\0")[0].headers == {"passcode": "a\\cb\\x"}


def test_stomp_is_unescaped_where_that_means_something() -> None:
    assert decoded(b"STOMP\nlogin:DOMAIN\\user\nhost:a\\cb\n\n\0")[0].headers == {
        "login": "DOMAIN\\user",
        "host": "a:b",
    }


# -- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"send\ndestination:/topic/a\n\n\0", "unknown_command"),
        (b" SEND\n\n\0", "unknown_command"),
        (b"SEND \n\n\0", "unknown_command"),
        (b"MESSAGE\n\n\0", "unknown_command"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "unknown_command"),
        (b"\rSEND\n\n\0", "unknown_command"),
        (b"\xff\xfe\n\n\0", "unknown_command"),
        (b"DISCONNECT\0", "malformed_frame"),
        (b"SEND\na:b\0c\n\n\0", "malformed_frame"),
        (b"SEND\na:\xff\n\n\0", "malformed_header"),
        (b"SEND\na:\xed\xa0\x80\n\n\0", "malformed_header"),
        (b"SEND\na:" + b"b" * 4096 + b"\n\n\0", "malformed_header"),
        (b"SEND\n" + b"a:b\n" * 65 + b"\n\0", "too_many_headers"),
        (b"SEND\ncontent-length:-1\n\nThe body of the message\0", "malformed_frame"),
        (b"SEND\ncontent-length:x\n\n\0", "malformed_frame"),
        (b"SEND\ncontent-length:\xd9\xa1\n\n1\0", "malformed_frame"),
        (b"SEND\ncontent-length:3\n\nab\0", None),
        (b"SEND\ncontent-length:1\n\nab\0", "malformed_frame"),
        (b"SEND\ncontent-length:1048577\n\n", "frame_too_large"),
        (b"SEND\n\n" + b"a" * (1024 * 1024 + 1), "frame_too_large"),
        (b"SEND\n" + b"a" * (32 * 1024 + 10), "frame_too_large"),
    ],
)
def test_what_is_refused(data: bytes, code: str | None) -> None:
    if code is None:
        assert list(Decoder().feed(data)) == []  # it waits for the rest
    else:
        assert refused(data) == code


def test_as_many_headers_as_allowed() -> None:
    assert len(decoded(b"SEND\n" + b"".join(b"a%d:b\n" % n for n in range(64)) + b"\n\0")[0].headers) == 64


def test_the_largest_body() -> None:
    body = bytes(1024 * 1024)
    assert decoded(b"SEND\ncontent-length:1048576\n\n" + body + b"\0")[0].body == body


def test_less_is_allowed_before_the_login() -> None:
    assert refused(b"SEND\n\n" + b"a" * 20_000, limits=BEFORE_LOGIN) == "frame_too_large"
    assert refused(b"CONNECT\n" + b"a:b\n" * 5_000 + b"\n\0", limits=BEFORE_LOGIN) == "frame_too_large"


def test_frames_before_an_error_are_there() -> None:
    frames, code = outcome([b"DISCONNECT\n\n\0bad\n\n\0"], Limits())
    assert [frame.command for frame in frames] == ["DISCONNECT"]
    assert code == "unknown_command"


def test_the_receipt_of_a_frame_that_is_refused_is_known() -> None:
    decoder = Decoder()
    with pytest.raises(ProtocolError):
        list(decoder.feed(b"SEND\nreceipt:r-1\nbad\n\n\0"))
    assert decoder.receipt == "r-1"


def test_the_version_may_change_between_two_frames_of_one_piece() -> None:
    decoder = Decoder()
    for frame in decoder.feed(b"CONNECT\n\n\0SEND\ndestination:a\\nb\n\n\0"):
        if frame.command == "CONNECT":
            decoder.version = "1.0"
        else:
            assert frame.headers == {"destination": "a\\nb"}


def test_a_body_in_single_bytes_takes_time_in_proportion_to_its_size() -> None:
    decoder = Decoder()
    frames = []
    for byte in b"SEND\n\n" + b"a" * 200_000 + b"\0":
        frames += list(decoder.feed(bytes([byte])))
    assert len(frames[0].body) == 200_000


# -- however it is cut ---------------------------------------------------------------------------------------------

hostile = st.lists(
    st.sampled_from(
        [
            b"SEND\n",
            b"CONNECT\r\n",
            b"DISCONNECT\n",
            b"\n",
            b"\r",
            b"\0",
            b"a:b\n",
            b"receipt:\\c\n",
            b"content-length:4\n",
            b"content-length:17\n",
            b"content-length:0\r\n",
            b"x:\\",
            b"\xc3\xa9",
            b"body",
            b"DISCONNECT\n\n\0",
            b"SEND\ncontent-length:3\n\na\0b\0",
        ]
    )
    | st.binary(max_size=6),
    max_size=14,
).map(b"".join)


@given(hostile)
@example(b"SEND\ncontent-length:16\n\n" + b"a" * 16 + b"\0\n\nDISCONNECT\r\n\r\n\0")
@example(b"SEND\n" + b"a" * 58 + b"\n\n\0")
@example(b"SEND\n" + b"a" * 59 + b"\n\r\n\0")
@example(b"SEND\n" + b"a" * 60 + b"\n\n\0")
@example(b"SEND\n\n" + b"a" * 16 + b"\0")
@example(b"SEND\n\n" + b"a" * 17 + b"\0")
def test_bytes_one_by_one_make_the_same_frames_and_the_same_error(data: bytes) -> None:
    whole = outcome([data], SMALL)
    assert outcome([data[at : at + 1] for at in range(len(data))], SMALL) == whole


@given(hostile, st.lists(st.integers(0, 120), max_size=4))
def test_any_cuts_make_the_same_frames_and_the_same_error(data: bytes, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    assert outcome(pieces, SMALL) == outcome([data], SMALL)


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(
    st.sampled_from(sorted((CLIENT_COMMANDS | SERVER_COMMANDS) - {"CONNECT", "CONNECTED", "STOMP"})),
    st.dictionaries(text.filter(lambda name: name not in ("", "content-length")), text, max_size=5),
    st.binary(max_size=50),
)
def test_what_is_encoded_by_1_2_is_decoded_again(command: str, headers: dict[str, str], body: bytes) -> None:
    body = body if command in WITH_BODY else b""
    frame = decoded(encode(Frame(command, headers, body), "1.2"))[0]
    length = {"content-length": str(len(body))} if command in WITH_BODY else {}
    assert frame == Frame(command, headers | length, body)


@given(st.sampled_from(["1.0", "1.1"]), st.dictionaries(text, text, max_size=5), st.binary(max_size=20))
def test_whatever_is_encoded_is_one_frame_with_the_body_it_had(
    version: str, headers: dict[str, str], body: bytes
) -> None:
    frames = decoded(encode(Frame("MESSAGE", headers, body), version), version)
    assert [(frame.command, frame.body) for frame in frames] == [("MESSAGE", body)]
    assert frames[0].headers["content-length"] == str(len(body))
