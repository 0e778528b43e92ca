"""The strict JSON reader: exact on hostile bodies, and what passes can be read back by any library."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brokers import json_checks
from brokers.errors import (
    BrokerError,
    DuplicateKey,
    EmptyBody,
    InvalidType,
    InvalidUnicode,
    InvalidValue,
    JsonNumber,
    JsonTooDeep,
    Malformed,
    MalformedJson,
    UnknownField,
)
from brokers.strict_json import (
    ABSENT,
    BatchReader,
    check_depth,
    check_numbers,
    check_text,
    decode,
    loads,
    parse_integer,
)


class Item(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    value: msgspec.Raw = ABSENT
    value_base64: str | None = None
    key: str | None = None
    headers: dict[str, str] | None = None
    partition: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Items(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    records: list[Item]


class PlainItem(msgspec.Struct, forbid_unknown_fields=True):
    """Encodes its defaults, so that duplicate keys can only be found by the second parse."""

    value: msgspec.Raw
    value_base64: str | None = None
    key: str | None = None
    headers: dict[str, str] | None = None
    partition: int | None = None


class PlainItems(msgspec.Struct, forbid_unknown_fields=True):
    records: list[PlainItem]


class Topic(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    partitions: int = 3
    ratio: float = 0.5
    policy: Annotated[str, msgspec.Meta(max_length=7)] = "delete"
    extra: msgspec.Raw = ABSENT


reader = BatchReader(Items, Item, items=lambda body: body.records, values=lambda items: [item.value for item in items])
plain_reader = BatchReader(
    PlainItems,
    PlainItem,
    items=lambda body: body.records,
    values=lambda items: [item.value for item in items],
)
Read = Callable[[bytes], list[bytes]]


def read(body: bytes) -> list[bytes]:
    return reader.read(body)[1]


def read_plain(body: bytes) -> list[bytes]:
    return plain_reader.read(body)[1]


def read_lines(body: bytes) -> list[bytes]:
    return reader.read_lines(body)[1]


def with_value(value: bytes) -> bytes:
    return b'{"records":[{"key":"a","value":%b}]}' % value


def everywhere(value: bytes) -> list[tuple[Callable[[bytes], Any], bytes]]:
    """The ways a value can come in."""
    return [
        (loads, value),
        (loads, b'{"a":%b}' % value),
        (lambda body: decode(body, Topic), b'{"name":"t","extra":%b}' % value),
        (read, with_value(value)),
        (read_plain, with_value(value)),
        (read_lines, b'{"value":%b}' % value),
    ]


REFUSED: list[tuple[bytes, type[BrokerError]]] = [
    (b"NaN", JsonNumber),
    (b"-Infinity", JsonNumber),
    (b"[1,Infinity]", JsonNumber),
    (b"1e400", JsonNumber),
    (b"-1E+400", JsonNumber),
    (b"[1, 1.7976931348623159e308]", JsonNumber),
    (b"1" * 101, JsonNumber),
    (b"1" * 5000, JsonNumber),
    (b"0." + b"1" * 5000, JsonNumber),
    (b"1" * 60 + b"." + b"1" * 41, JsonNumber),
    (b"1e-" + b"0" * 100 + b"1", JsonNumber),
    (b"9" * 100 + b"e209", JsonNumber),
    (b'["a \\" 1", 1e999]', JsonNumber),
    (b"[" * 65 + b"]" * 65, JsonTooDeep),
    (b'{"a":' * 65 + b"1" + b"}" * 65, JsonTooDeep),
    (b"[" * 100_000 + b"]" * 100_000, JsonTooDeep),
    (b"[" * 100_000, JsonTooDeep),
    (b"[[]," * 65 + b"1" + b"]" * 65, JsonTooDeep),
    (b'["]]]]]]]]",' * 65 + b"1" + b"]" * 65, JsonTooDeep),
    (b'"\\ud800"', InvalidUnicode),
    (b'"\\uDC00"', InvalidUnicode),
    (b'"\\ude00\\ud83d"', InvalidUnicode),
    (b'"\\ud83d\\ud83d\\ude00"', InvalidUnicode),
    (b'"\\\\\\ud800"', InvalidUnicode),
    (b'"\\\\ud83d\\ude00"', InvalidUnicode),
    (b'{"\\ud800":1}', InvalidUnicode),
    (b'"\xff"', MalformedJson),
    (b'"\xc0\xaf"', MalformedJson),
    (b'"\xed\xa0\x80"', MalformedJson),
    (b'{"\xff":1}', MalformedJson),
    (b'"\x00"', MalformedJson),
    (b'"\n"', MalformedJson),
    (b'"\\x"', MalformedJson),
    (b'"\\u12"', MalformedJson),
    (b"01", MalformedJson),
    (b"1.", MalformedJson),
    (b"+1", MalformedJson),
    (b"[1,]", MalformedJson),
    (b"[1}", MalformedJson),
    (b"'a'", MalformedJson),
    (b"nul", MalformedJson),
    (b"1 2", MalformedJson),
    (b"/**/1", MalformedJson),
]


@pytest.mark.parametrize(("value", "error"), REFUSED, ids=lambda each: repr(each)[:40])
def test_what_no_reader_could_agree_on_is_refused(value: bytes, error: type[BrokerError]) -> None:
    for reading, body in everywhere(value):
        with pytest.raises(error):
            reading(body)


ACCEPTED = [
    b"9007199254740993.0",
    b"1" * 100,
    b"1e308",
    b"-1.7976931348623157e308",
    b"1e-400",
    b"0e9999",
    b"1E+5",
    b"-0",
    b'"1e400"',
    b'"a, 1e400, b"',
    b'"5e12345"',
    b'["7e1234567-89ab","' + b"1" * 5000 + b'"]',
    b'" ' + b"1" * 101 + b' "',
    b"[" * 60 + b"]" * 60,
    b'"' + b"[" * 500 + b'"',
    b'["\\"' + b"[" * 500 + b'"]',
    b"[" + b",".join([b"[[]]"] * 500) + b"]",
    b'"\\ud83d\\ude00"',
    b'"\\\\ud800"',
    b'"\\\\\\\\ud800 \\ud83d\\uDE00"',
    b'"\\u0000"',
    '"Zürich ✈ 😀 \u2028"'.encode(),
    b'"\x7f"',
    b" { } ",
]


@pytest.mark.parametrize("value", ACCEPTED, ids=lambda each: repr(each)[:40])
def test_what_every_reader_agrees_on_passes(value: bytes) -> None:
    assert loads(value) == json.loads(value)
    assert read(with_value(value)) == [value.strip()]
    assert read_plain(with_value(value)) == [value.strip()]
    assert read_lines(b'{"value":%b}' % value) == [value.strip()]


def test_a_value_may_be_nested_64_deep_in_every_batch() -> None:
    value = b"[" * 64 + b"]" * 64
    assert loads(value) == json.loads(value)
    assert read(with_value(value)) == [value]
    assert read_lines(b'{"value":%b}' % value) == [value]


@pytest.mark.parametrize("body", [b"", b" \r\n"])
@pytest.mark.parametrize("reading", [loads, read, read_lines])
def test_an_empty_body_is_told_apart(reading: Read, body: bytes) -> None:
    with pytest.raises(EmptyBody):
        reading(body)


@pytest.mark.parametrize("reading", [loads, read, read_lines])
@pytest.mark.parametrize(
    "damage",
    [
        lambda body: b"\xef\xbb\xbf" + body,
        lambda body: body.decode().encode("utf-16"),
        lambda body: body.decode().encode("utf-32"),
        lambda body: body + b" x",
        lambda body: body + b"\0",
        lambda body: body[:-1],
    ],
    ids=["mark", "utf-16", "utf-32", "trailing", "zero byte", "cut off"],
)
def test_other_encodings_and_lengths_are_refused(reading: Read, damage: Callable[[bytes], bytes]) -> None:
    whole = b'{"value":1}' if reading is read_lines else b'{"records":[{"value":1}]}'
    reading(whole)
    with pytest.raises(MalformedJson):
        reading(damage(whole))


def test_the_position_of_a_wrong_byte_is_told() -> None:
    with pytest.raises(MalformedJson, match="byte 9"):
        loads(b'{"name":"\xff"}')


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"records":[{"value":1,"value":2}]}', "/records/0/value"),
        (b'{"records":[{"value":1},{"value":1, "v\\u0061lue":2}]}', "/records/1/value"),
        (b'{"records":[{"value":1}],"records":[{"value":1}]}', "/records"),
        (b'{"records":[{"value":1,"headers":{"a/b":"1","a/b":"2"}}]}', "/records/0/headers/a~1b"),
        (b'{"records":[{"value":{"a":1,"a":2},"key":"k","key":"k"}]}', "/records/0/key"),
        (b'{"records":[{"value":1,"key":null,"key":null}]}', "/records/0/key"),
        (b'{"records":[{"value":1,"key":"\\u0022","partition":1,"partition":1}]}', "/records/0/partition"),
        (b'{"records":[{"value":1,"key":"\\u0022\\u0022","key":"\\u0022\\u0022"}]}', "/records/0/key"),
    ],
)
def test_a_key_twice_in_the_envelope_is_refused(body: bytes, pointer: str) -> None:
    for reading in (read, read_plain):
        with pytest.raises(DuplicateKey) as refused:
            reading(body)
        assert refused.value.errors == [(pointer, "occurs twice")]


def test_a_key_twice_inside_a_value_is_the_publishers_business() -> None:
    value = b'{"a": 1, "a": {"b":1,"b":2}}'
    assert read(with_value(value)) == [value]
    assert read_plain(with_value(value)) == [value]
    assert read(b'{"records":[{"key":null,"value":%b}]}' % value) == [value]
    assert read_lines(b'{"value":%b}' % value) == [value]


def test_a_key_twice_is_refused_anywhere_in_a_control_body() -> None:
    for body, pointer in (
        (b'{"name":"a","name":"a"}', "/name"),
        (b'{"name":"a","extra":[{"x":1,"x":1}]}', "/extra/0/x"),
    ):
        with pytest.raises(DuplicateKey) as refused:
            decode(body, Topic)
        assert refused.value.errors[0][0] == pointer


@pytest.mark.parametrize(
    ("body", "error", "code", "pointer"),
    [
        (b'{"name":"t","colour":1}', UnknownField, "unknown_field", "/colour"),
        (b'{"name":"t","a/b~c":1}', UnknownField, "unknown_field", "/a~1b~0c"),
        (b'{"name":1}', InvalidType, "invalid_type", "/name"),
        (b'{"name":null}', InvalidType, "invalid_type", "/name"),
        (b'{"name":"t","partitions":"1"}', InvalidType, "invalid_type", "/partitions"),
        (b'{"name":"t","partitions":true}', InvalidType, "invalid_type", "/partitions"),
        (b'{"name":"t","partitions":1.0}', InvalidType, "invalid_type", "/partitions"),
        (b'{"name":"t","partitions":1e2}', InvalidType, "invalid_type", "/partitions"),
        (b'{"name":"t","ratio":false}', InvalidType, "invalid_type", "/ratio"),
        (b'{"name":"t","policy":"forever!"}', InvalidValue, "invalid_value", "/policy"),
        (b"{}", InvalidValue, "invalid_value", "/name"),
        (b"[]", InvalidType, "invalid_type", ""),
    ],
)
def test_a_wrong_field_is_pointed_at(body: bytes, error: type[InvalidValue], code: str, pointer: str) -> None:
    with pytest.raises(error) as refused:
        decode(body, Topic)
    assert refused.value.code == code
    assert refused.value.errors[0][0] == pointer


@pytest.mark.parametrize(
    ("item", "pointer"),
    [
        (b'{"value":1,"key":3}', "/key"),
        (b'{"value":1,"zz":[[]]}', "/zz"),
        (b'{"value":1,"partition":-1}', "/partition"),
        (b'{"value":1,"headers":{"a":3}}', "/headers"),
        (b'{"value":1,"key":"a","key":"b"}', "/key"),
    ],
)
def test_the_item_that_is_wrong_is_pointed_at(item: bytes, pointer: str) -> None:
    with pytest.raises(BrokerError) as refused:
        reader.read(b'{"records":[{"value":0},%b]}' % item)
    assert refused.value.errors[0][0] == f"/records/1{pointer}"
    with pytest.raises(BrokerError) as refused:
        reader.read_lines(b'{"value":0}\n\n%b\n{"value":2}' % item)
    assert refused.value.errors[0][0] == f"/1{pointer}"


def test_a_rejected_name_is_shown_by_its_beginning_and_escaped() -> None:
    with pytest.raises(UnknownField) as refused:
        decode(json.dumps({"name": "t", "\x1b\u202e" + "z" * 10_000: 1}).encode(), Topic)
    assert refused.value.detail.isprintable()
    assert len(refused.value.detail) < 200


def test_every_line_is_one_item() -> None:
    body = b'\n{"value":1}\r\n \n{"value": {"a": [1, 2]} }\n{"key":"k","value":null}\n'
    items, values = reader.read_lines(body)
    assert values == [b"1", b'{"a": [1, 2]}', b"null"]
    assert [item.key for item in items] == [None, None, "k"]
    for wrong in (
        b'{"value":1}{"value":2}',
        b'{"value":[1,\n2]}',
        b'{"value":1},\n{"value":2}',
        b'[{"value":1}]',
    ):
        with pytest.raises((MalformedJson, InvalidType)):
            reader.read_lines(wrong)


def test_an_absent_value_is_told_apart_from_null() -> None:
    items, values = reader.read_lines(b'{"value":null}\n{"value_base64":"AA=="}')
    assert values == [b"null", b""]
    assert items[1].value is ABSENT


# -- linear time ------------------------------------------------------------------------------------

MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    "body",
    [
        b'"\\' * (MEBIBYTE // 2),
        b'"' * MEBIBYTE,
        b"[]" * (MEBIBYTE // 2),
        b"]" * MEBIBYTE,
        (b"[" * 64 + b"]" * 64) * (MEBIBYTE // 128),
        b'"' + b"1e1111" * (MEBIBYTE // 6) + b'"',
        b"1e1111 " * (MEBIBYTE // 7),
        b'" 1e1111' * (MEBIBYTE // 8),
        b"1" * MEBIBYTE,
        b'"' + b"\\ud83d\\ude00" * (MEBIBYTE // 12) + b'"',
        b"\\" * MEBIBYTE + b"\\ud800",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_no_text_makes_a_check_take_more_than_linear_time(body: bytes) -> None:
    began = time.perf_counter()
    for check in (check_text, check_depth, check_numbers, json_checks.check_depths):
        try:
            check(body)
        except Malformed:
            continue
    assert time.perf_counter() - began < 5


# -- the invariant ----------------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**110), 10**110)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["[[[{", '"', "\\", "1e400", "\ud83d\ude00"[:0]])
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
fragments = st.sampled_from(
    [
        *b'{}[],:"\\ 0159.eE+-tfn\n\0\xff\xc3\xa9/u',
        *(
            b"null",
            b"true",
            b"1e400",
            b"NaN",
            b"-Infinity",
            b'"a":1',
            b'"a"',
            b"\\ud83d",
            b"\\ude00",
            b"\\u0022",
        ),
        *(b'"value":', b'"key":"k"', b'"records":[', b"1" * 101, b"[" * 70, b"]" * 70, b"1.7976931348623158"),
        *(b"e308", b"e+30", b"\\\\", b"00000", b'{"value":1}', b'"value":1,"value":2'),
    ]
).map(lambda each: bytes([each]) if isinstance(each, int) else each)
pieces = st.lists(fragments, max_size=20).map(b"".join)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A document with something spliced into it."""
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]))
    text = json.dumps(draw(documents), ensure_ascii=draw(st.booleans()), separators=separators).encode(
        "utf-8", "surrogatepass"
    )
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(pieces) + text[draw(st.integers(at, len(text))) :]


values = damaged() | pieces | st.binary(max_size=30) | documents.map(lambda d: json.dumps(d).encode())


def reread(text: bytes) -> Any:
    """The value as Python reads it, after checking that msgspec reads the same."""
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} passed"))
    assert msgspec.json.decode(text) == found
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    json.dumps(found, ensure_ascii=False).encode()
    return found


@settings(max_examples=1500, deadline=None)
@given(values)
@example(b"1.7976931348623158e308")
@example(b"0." + b"0" * 98 + b"1e300")
@example(b'1,"value":2')
@example(b'1},{"value":2')
def test_a_value_that_passes_reads_back_alike_everywhere(value: bytes) -> None:
    for envelope, reading in ((with_value(value), read), (with_value(value), read_plain)):
        try:
            found = reading(envelope)
        except BrokerError:
            continue
        whole = json.loads(envelope)["records"]
        assert [reread(each) for each in found if each] == [item["value"] for item in whole if "value" in item]
    try:
        lines = read_lines(b'{"value":%b}' % value)
    except BrokerError:
        return
    assert all(reread(line) is not NotImplemented for line in lines if line)


@settings(max_examples=1500, deadline=None)
@given(values)
def test_any_body_is_read_alike_or_refused(body: bytes) -> None:
    try:
        found = loads(body)
    except Malformed:
        found = None
    else:
        assert found == reread(body)
    for reading in (read, read_lines, lambda text: decode(text, Topic)):
        try:
            reading(body)
        except BrokerError:
            continue


@settings(max_examples=500, deadline=None)
@given(documents, st.sampled_from([(",", ":"), (", ", ": ")]), st.booleans())
def test_what_other_libraries_write_is_accepted(document: Any, separators: tuple[str, str], ascii_only: bool) -> None:
    text = json.dumps(document, separators=separators, ensure_ascii=ascii_only).encode("utf-8", "replace")
    try:
        assert read(with_value(text)) == [text]
    except JsonNumber:
        assert any(len(run) > 100 for run in text.replace(b"-", b" ").replace(b",", b" ").split())
    except JsonTooDeep:
        pytest.fail("nothing here is deep")


spelt_keys = st.sampled_from(
    [b'"value"', b'"v\\u0061lue"', b'"key"', b'"key"', b'"\\u006bey"', b'"headers"', b'"partition"']
)
spelt_values = st.sampled_from(
    [
        b"null",
        b"null",
        b"0",
        b"-0",
        b'"a"',
        b'"\\u0022"',
        b'"\\"\\/"',
        b'"\\u0022\\b\\u0001"',
        b"{}",
        b'{"a":"1"}',
        b'{"a":"1","\\u0061":"2"}',
        b'{"\\u0022":"","\\"":""}',
        '"é\u2028"'.encode(),
        b'"\\u00e9"',
    ]
)
spaces = st.sampled_from([b"", b"", b" ", b"\n\t"])


@st.composite
def spelt_items(draw: st.DrawFn) -> bytes:
    pairs = draw(st.lists(st.tuples(spelt_keys, spaces, spelt_values, spaces), max_size=5))
    return b"{%b}" % b",".join(b"%b:%b%b%b" % pair for pair in pairs)


def names_twice(item: bytes) -> bool:
    """Whether an item's envelope, its headers included, has a key twice."""
    found = json.loads(item, object_pairs_hook=tuple)
    objects = [found, *(value for name, value in found if name == "headers" and isinstance(value, tuple))]
    return any(len({name for name, _ in pairs}) < len(pairs) for pairs in objects)


@settings(max_examples=1500, deadline=None)
@given(st.lists(spelt_items(), min_size=1, max_size=3))
@example([b'{"value":0,"key":"\\u0022","key":"\\u0022\\u0022"}'])
@example([b'{"value":{"key":null},"key":null,"key":"a"}'])
def test_keys_given_twice_are_found_however_they_are_spelt(items: list[bytes]) -> None:
    twice = any(map(names_twice, items))
    for reading, body in (
        (read, b'{"records":[%b]}' % b",".join(items)),
        (read_plain, b'{"records":[%b]}' % b",".join(items)),
        (read_lines, b"\n".join(item.replace(b"\n", b" ") for item in items)),
    ):
        try:
            reading(body)
        except DuplicateKey:
            assert twice
        except InvalidValue:
            continue
        else:
            assert not twice


def plain_depth(text: str) -> int:
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


@given(documents, st.integers(0, 6))
def test_depth_is_exact(document: Any, limit: int) -> None:
    text = json.dumps(document)
    try:
        check_depth(text.encode(), limit)
        passed = True
    except JsonTooDeep:
        passed = False
    assert passed == (plain_depth(text) <= limit)


@given(st.lists(documents, max_size=5), st.integers(0, 6))
def test_depth_of_many_values_is_the_depth_of_each(found: list[Any], limit: int) -> None:
    texts = [json.dumps(document) for document in found]
    try:
        json_checks.check_depths("\0".join(texts).encode(), limit)
        passed = True
    except JsonTooDeep:
        passed = False
    assert passed == all(plain_depth(text) <= limit for text in texts)


# -- query parameters -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "1", "-1", "9223372036854775807", "-9223372036854775808"])
def test_plain_integers_are_parsed(text: str) -> None:
    assert parse_integer(text) == int(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " 1",
            "1 ",
            "1\n",
            "+1",
            "-0",
            "01",
            "00",
            "1_0",
            "1.0",
            "1e2",
            "0x1",
            "٣",
            "١٢",
            "true",
            "NaN",
        ),
        *("9223372036854775808", "-9223372036854775809", "1" * 20, "1" * 5000),
    ],
)
def test_other_spellings_and_larger_integers_are_refused(text: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse_integer(text, pointer="/offset")
    assert refused.value.errors[0][0] == "/offset"
    assert len(refused.value.detail) < 200


def test_bounds_are_part_of_the_refusal() -> None:
    assert parse_integer("30000", minimum=0, maximum=30_000) == 30_000
    with pytest.raises(InvalidValue, match="0 to 30000"):
        parse_integer("30001", minimum=0, maximum=30_000)
    with pytest.raises(InvalidValue, match="0 to 30000"):
        parse_integer("-1", minimum=0, maximum=30_000)
