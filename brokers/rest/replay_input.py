"""What a request for a replay asks for, as the domain's values: selection, target, edit and pace.

The selection holds no more than the caller may know of. Raises what is wrong with a pointer to where. Called by
`replays` alone.
"""

from __future__ import annotations

import base64
import binascii

import msgspec
from msgspec import UNSET

from brokers.access import authorize
from brokers.errors import DeadLetterNotFound, FailureGroupNotFound, InvalidValue, shown
from brokers.record import JSON, RAW
from brokers.replays.request import UNCHANGED, Canary, Edit, Pace, Target, Unchanged
from brokers.rest import replay_schemas as schemas
from brokers.rest.dead_letters import filter_of, known_owners
from brokers.rest.failure_access import Reader
from brokers.selectors import dead_letters as letters
from brokers.selectors.dead_letters import Filter

_NULL = b"null"


def selection_of(body: schemas.ReplayRequest, reader: Reader) -> Filter:
    """The selection, of what the caller may know of.

    Raises `InvalidValue`, `DeadLetterNotFound`, `FailureGroupNotFound`, `SearchTooBroad`.
    """
    given = body.selection
    if (given.ids is UNSET) == (given.filter is UNSET):
        raise InvalidValue("a selection has ids or a filter", pointer="/selection")
    if given.filter is not UNSET:
        wanted = filter_of(given.filter, "/selection/filter")
        if wanted.fingerprint is not None:
            _require_failures(wanted.fingerprint, reader)
        return letters.permitted(wanted, reader.sees, reader.views)
    assert given.ids is not UNSET
    known = known_owners(given.ids, reader)
    missing = [
        (f"/selection/ids/{index}", f"there is no dead letter {number}")
        for index, number in enumerate(given.ids)
        if number not in known
    ]
    if missing:
        raise DeadLetterNotFound(missing[0][1], errors=missing[:10])
    return Filter(ids=tuple(given.ids))


def _require_failures(fingerprint: str, reader: Reader) -> None:
    found = letters.failure_group(fingerprint)
    if not reader.sees(found.source_kind, found.source, found.group):
        raise FailureGroupNotFound(f"there are no failures of the fingerprint {shown(fingerprint)}")


def target_of(body: schemas.ReplayRequest, reader: Reader) -> Target | None:
    """Where to, if not back; raises `AccessDenied` unless the caller may write there."""
    if body.target is None:
        return None
    given = msgspec.structs.asdict(body.target)
    named = [name for name in ("topic", "queue", "exchange") if given[name] is not UNSET]
    if len(named) != 1:
        raise InvalidValue("a target names one of topic, queue and exchange", pointer="/target")
    if given["routing_key"] is not UNSET and named != ["exchange"]:
        raise InvalidValue("only an exchange takes a routing_key", pointer="/target/routing_key")
    target = Target(**{name: value for name, value in given.items() if value is not UNSET})
    authorize(reader.principal, "write", *target.resource)
    return target


def edit_of(body: schemas.ReplayRequest) -> Edit | None:
    """The new contents of one dead letter, if there are any; raises `InvalidValue`."""
    edit = body.edit
    if edit is None or edit.merge_patch is not UNSET:
        return None
    given = {name for name, value in msgspec.structs.asdict(edit).items() if value is not UNSET}
    if not given - {"revision"}:
        raise InvalidValue("an edit gives key, value or headers, or a merge_patch", pointer="/edit")
    for name in ("key", "value"):
        if {name, f"{name}_base64"} <= given:
            raise InvalidValue(f"give {name} or {name}_base64, not both", pointer=f"/edit/{name}_base64")
    key: bytes | Unchanged | None = UNCHANGED
    if edit.key is not UNSET:
        key = None if edit.key is None else edit.key.encode()
    elif edit.key_base64 is not UNSET:
        key = _decoded(edit.key_base64, "key_base64")
    value: bytes | Unchanged | None = UNCHANGED
    encoding = JSON
    if edit.value is not UNSET:
        value = bytes(edit.value)
        if value == _NULL:
            value, encoding = None, RAW
    elif edit.value_base64 is not UNSET:
        value, encoding = _decoded(edit.value_base64, "value_base64"), RAW
    return Edit(
        key,
        value,
        encoding,
        UNCHANGED if edit.headers is UNSET else edit.headers,
        None if edit.revision is UNSET else edit.revision,
    )


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue(f"{name} is not base64 (RFC 4648, section 4)", pointer=f"/edit/{name}") from error


def merge_patch_of(body: schemas.ReplayRequest) -> bytes | None:
    """The merge patch's JSON text, if there is one; raises `InvalidValue`."""
    edit = body.edit
    if edit is None or edit.merge_patch is UNSET:
        return None
    others = [name for name, value in msgspec.structs.asdict(edit).items() if value is not UNSET]
    if others != ["merge_patch"]:
        raise InvalidValue("a merge_patch stands alone", pointer="/edit/merge_patch")
    return bytes(edit.merge_patch)


def pace_of(body: schemas.ReplayRequest) -> Pace:
    """How carefully it goes."""
    canary = None if body.canary is None else Canary(body.canary.count, body.canary.min_success)
    return Pace(body.rate_per_second, canary, body.stop_when_failed_again)
