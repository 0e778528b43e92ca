"""RFC 7396 JSON Merge Patch on JSON text: what the patch does not name keeps its very bytes.

Numbers that no float can hold, the order of members and the way text is escaped stay as they were, because only the
objects on the patch's way are taken apart. Pure; called by replays.
"""

from __future__ import annotations

import msgspec

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_look_through = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.encode


def merge(document: bytes, patch: bytes) -> bytes:
    """The document with the patch applied: members set to null go, objects are merged, anything else is replaced.

    RFC 7396, section 2. Raises `ValueError` when either is no JSON in UTF-8, or an object of theirs cannot be read.
    """
    for text in (document, patch):
        text.decode()
        _look_through(text)
    return bytes(_merge(document, patch))


def _merge(document: bytes, patch: bytes) -> bytes:
    if not _is_object(patch):
        return patch.strip()
    members = _members(document) if _is_object(document) else {}
    for name, value in _members(patch).items():
        text = bytes(value)
        if text == b"null":
            members.pop(name, None)
        else:
            members[name] = msgspec.Raw(_merge(bytes(members.get(name, b"null")), text))
    return _encode(members)


def _is_object(text: bytes) -> bool:
    return text.lstrip(b" \t\r\n").startswith(b"{")
