"""Finds objects that name a key twice, of which every decoder silently keeps one or the other.

`check_duplicate_keys` parses a body a second time and is exact. `accounts_for` rules duplicates out for a
fraction of that: it looks whether something is missing from an encoding of what was decoded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType, inspect

from brokers.errors import DuplicateKey, shown
from brokers.json_checks import MAX_DEPTH, refuse_depth


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written: its pairs in order."""


def check_duplicate_keys(body: bytes, typed: object = None, *, opaque: bool = False, pointer: str = "") -> None:
    """Refuse objects that name a key twice, anywhere in `body`: UTF-8 JSON that has passed the other checks.

    With `opaque`, what `typed` (the decoded body) holds as Raw is the publisher's business: duplicate keys
    inside of it are let through, to be stored and returned as they came. `pointer` is where `body` stands.

    Raises:
        DuplicateKey: with the pointer of the second occurrence.
    """
    try:
        written = json.loads(body, object_pairs_hook=_Pairs)
    except RecursionError:
        refuse_depth(MAX_DEPTH)
    _walk(written, typed, pointer, opaque)


def _walk(written: object, typed: object, pointer: str, opaque: bool) -> None:
    if opaque and isinstance(typed, Raw):
        return
    if isinstance(written, _Pairs):
        seen = set()
        for name, child in written:
            at = f"{pointer}/{escaped(name)}"
            if name in seen:
                raise DuplicateKey(f"the key {shown(name)} occurs twice in one object", errors=[(at, "occurs twice")])
            seen.add(name)
            _walk(child, _member(typed, name), at, opaque)
    elif isinstance(written, list):
        items = typed if isinstance(typed, list | tuple) and len(typed) == len(written) else None
        for index, child in enumerate(written):
            _walk(child, items[index] if items is not None else None, f"{pointer}/{index}", opaque)


def _member(typed: object, name: str) -> object:
    if isinstance(typed, msgspec.Struct):
        return getattr(typed, _attributes(type(typed)).get(name, ""), None)
    return typed.get(name) if isinstance(typed, dict) else None


@lru_cache(maxsize=256)
def _attributes(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {field.encode_name: field.name for field in msgspec.structs.fields(struct)}


def escaped(name: str) -> str:
    """The beginning of `name` as a step of a JSON pointer."""
    return name[:64].replace("~", "~0").replace("/", "~1")


def accounts_for(encoded: bytes, body: bytes) -> bool:
    """Whether `encoded`, made from what was decoded from `body`, has all of it: no key was dropped.

    For types that `keeps_its_form` and `omits_defaults` allow: then an encoding is never longer than its
    source, and has no quotation mark that its source lacks but where that wrote one as an escape; a key that
    was dropped takes at least two along. False proves nothing: the body may have defaults spelled out.
    """
    if len(encoded) == len(body):
        return True
    if b"\\" in body and b"\\u0022" in body:
        return False
    return encoded.count(b'"') == body.count(b'"')


_SAME_FORM = (
    inspect.StrType,
    inspect.IntType,
    inspect.BoolType,
    inspect.NoneType,
    inspect.RawType,
    inspect.LiteralType,
)


def keeps_its_form(node: inspect.Type) -> bool:
    """Whether values of this type never encode to more text or quotation marks than they came from."""
    if isinstance(node, inspect.Metadata):
        return keeps_its_form(node.type)
    if isinstance(node, inspect.UnionType):
        return all(map(keeps_its_form, node.types))
    if isinstance(node, inspect.ListType):
        return keeps_its_form(node.item_type)
    if isinstance(node, inspect.DictType):
        return isinstance(node.key_type, inspect.StrType) and keeps_its_form(node.value_type)
    if isinstance(node, inspect.StructType):
        return node.tag is None and all(keeps_its_form(field.type) for field in node.fields)
    return isinstance(node, _SAME_FORM)


def omits_defaults(struct: type[msgspec.Struct]) -> bool:
    """Whether encoding adds no field of `struct` that its source did not have."""
    return struct.__struct_config__.omit_defaults or all(field.required for field in msgspec.structs.fields(struct))


def spelling_out(struct: type[msgspec.Struct], types: Mapping[Any, Any]) -> type[msgspec.Struct]:
    """A twin of `struct` that keeps defaults apart which a body spells out, such as `"key": null`.

    `types` replaces types of fields, so that a twin can hold twins.
    """
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(struct):
        wanted = types.get(field.type, field.type)
        fields.append((field.encode_name, wanted) if field.required else (field.encode_name, wanted | UnsetType, UNSET))
    return msgspec.defstruct(f"{struct.__name__}SpeltOut", fields)
