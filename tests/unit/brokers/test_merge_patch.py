"""JSON Merge Patch: RFC 7396's own table, its algorithm on random values, and bytes that must stay."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.merge_patch import merge

TABLE = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]


@pytest.mark.parametrize(("document", "patch", "result"), TABLE)
def test_the_examples_of_the_rfc(document: str, patch: str, result: str) -> None:
    assert merge(document.encode(), patch.encode()) == result.encode()


def by_the_rfc(target: Any, patch: Any) -> Any:
    """Section 2, line by line."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = by_the_rfc(merged.get(name), value)
    return merged


names = st.sampled_from(["a", "b", "é", "\x00", 'quo"te', "\\", "x y"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(values, values, st.sampled_from([None, 1]))
def test_it_does_what_the_rfcs_algorithm_does(document: Any, patch: Any, indent: int | None) -> None:
    texts = [json.dumps(value, indent=indent, ensure_ascii=False).encode() for value in (document, patch)]
    assert json.loads(merge(*texts)) == by_the_rfc(document, patch)


@given(values)
def test_an_empty_patch_changes_no_object(document: Any) -> None:
    text = json.dumps(document).encode()
    assert json.loads(merge(text, b"{}")) == (document if isinstance(document, dict) else {})


def test_what_the_patch_does_not_name_keeps_its_bytes() -> None:
    document = (
        b'{"n": 1e400, "big":123456789012345678901234567890.10, "s":"\\u00e9\\/", "o":{"z":1.0, "a" : [ 1 ]}, "x":2}'
    )
    assert merge(document, b'{"x":null,"o":{"z":0.1e-7}}') == (
        b'{"n":1e400,"big":123456789012345678901234567890.10,"s":"\\u00e9\\/","o":{"z":0.1e-7,"a":[ 1 ]}}'
    )


@pytest.mark.parametrize("document", [b"", b"{", b'{"a":}', b"nil", b'{"a":1}x', b'"\xff"', b'{"\xff":1}'])
def test_what_is_no_json_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError):
        merge(document, b"{}")
    with pytest.raises(ValueError):
        merge(b"{}", document)
