"""The OpenAPI 3.1 document, generated from the operations and their msgspec types; nothing is described twice."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, get_args

import msgspec

from brokers import errors
from brokers.errors import BrokerError
from brokers.rest import message_schemas, queue_schemas, schemas
from brokers.rest.operation import NDJSON_TYPE, Operation
from brokers.rest.problems import InternalError, MethodNotAllowed, Problem, RequestTimeout, status_of
from brokers.rest.schemas import NAME_SCHEMA

TITLE = "Waystation"
VERSION = "1"
_REF = "#/components/schemas/{name}"
_PATH = re.compile(r"\{(\w+)\}")
_WITH_BODY = (
    errors.Malformed,
    errors.EmptyBody,
    errors.MalformedJson,
    errors.JsonTooDeep,
    errors.JsonNumber,
    errors.DuplicateKey,
    errors.InvalidUnicode,
    errors.TooLarge,
    errors.UnsupportedMediaType,
    errors.InvalidType,
    errors.UnknownField,
    RequestTimeout,
)
_AUTHENTICATED = (errors.Unauthenticated, errors.InvalidToken, errors.AccessDenied)
_ALWAYS = (errors.Unavailable, errors.InvalidValue, errors.UnknownField, InternalError, MethodNotAllowed)
_PARAMETERS: dict[str, dict[str, Any]] = {
    "partition": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "topic": NAME_SCHEMA,
    "group": NAME_SCHEMA,
    "exchange": NAME_SCHEMA,
    "queue": NAME_SCHEMA,
    "policy": NAME_SCHEMA,
    "binding_id": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
    "dead_letter_id": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
    "replay_id": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
    "lock": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[^\\x00]+$"},
    "task": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[^\\x00]+$"},
    "run_id": {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
    "Last-Event-ID": {"type": "string", "maxLength": 11_000, "pattern": "^[\\x20-\\x7e]*$"},
}
_IDENTIFIER = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}
_HEADER_TEXT = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x20-\\x7e]+$"}
_REFINEMENTS = schemas.REFINEMENTS | queue_schemas.REFINEMENTS | message_schemas.REFINEMENTS
_HEADERS = {
    401: {"WWW-Authenticate": "How to send a token."},
    405: {"Allow": "The methods that the path knows."},
    429: {"Retry-After": "Seconds to wait before trying again."},
    503: {"Retry-After": "Seconds to wait before trying again."},
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The whole document as JSON-ready values."""
    types: list[Any] = [Problem]
    for operation in operations:
        types += [kind for kind in (operation.body, *operation.answers.values()) if kind is not None]
        types += operation.mentioned
    components = _components(types)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for operation in operations:
        paths[operation.path][operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": VERSION,
            "description": "A partitioned topic log, consumer groups, exchanges and queues, dead letters and replays.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "paths": dict(paths),
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _components(types: Sequence[Any]) -> dict[str, Any]:
    """Schemas of the types and of those inside of them, with what their fields' docstrings say."""
    _, components = msgspec.json.schema_components(list(dict.fromkeys(types)), ref_template=_REF)
    known = {kind.__name__: kind for root in types for kind in _structs(root)}
    for name, schema in components.items():
        for field, text in _field_texts(known[name]).items():
            schema["properties"][field]["description"] = text
        for field, refined in _REFINEMENTS.get(name, {}).items():
            (schema["properties"][field] if field else schema).update(refined)
    return dict(sorted(components.items()))


def _structs(root: Any) -> Iterable[type[msgspec.Struct]]:
    """A type and all Structs that it is made of."""
    found: dict[type[msgspec.Struct], None] = {}
    waiting = [root]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            if kind not in found:
                found[kind] = None
                waiting += [field.type for field in msgspec.structs.fields(kind)]
        else:
            waiting += get_args(kind)
    return found


@lru_cache(maxsize=1000)
def _field_texts(kind: type[msgspec.Struct]) -> Mapping[str, str]:
    """The strings that stand below the fields of a Struct, by their names on the wire."""
    wire = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
    found: dict[str, str] = {}
    for ancestor in reversed(kind.__mro__):
        if ancestor.__module__.startswith("msgspec") or ancestor is object:
            continue
        declared = ast.parse(textwrap.dedent(inspect.getsource(ancestor))).body[0]
        assert isinstance(declared, ast.ClassDef)
        for above, below in pairwise(declared.body):
            if (
                isinstance(above, ast.AnnAssign)
                and isinstance(above.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                found[wire[above.target.id]] = inspect.cleandoc(str(below.value.value))
    return found


def problems_of(operation: Operation) -> list[type[BrokerError]]:
    """Every error that an operation may answer."""
    found: list[type[BrokerError]] = list(operation.problems)
    if operation.path.startswith("/api/"):
        found += _ALWAYS
    else:
        found.append(MethodNotAllowed)
    if not operation.public:
        found += _AUTHENTICATED
    if operation.body is not None:
        found += _WITH_BODY
    parameters = _PATH.findall(operation.path)
    if parameters:
        found.append(errors.NotFound)
    if any(_PARAMETERS.get(name) is NAME_SCHEMA for name in parameters):
        found.append(errors.InvalidName)
    return list(dict.fromkeys(found))


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.handler.__name__,
        "summary": operation.summary,
        "description": f"{operation.description}\n\n{access_text(operation)}".strip(),
        "tags": [operation.tag],
        "parameters": list(_parameters(operation)),
        "responses": _responses(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _request_content(operation)}
    described["security"] = [] if operation.public else [{"token": []}]
    if operation.token_optional:
        described["security"].append({})
    return described


def access_text(operation: Operation) -> str:
    """What a caller must hold, as a sentence."""
    needed = []
    for access in operation.access:
        if access.why.startswith("on "):
            needed.append(f"`{access.operation}` {access.why}")
        else:
            where = f" `{{{access.parameter}}}`" if access.parameter else ""
            needed.append(f"`{access.operation}` on {access.resource_type}{where}")
            needed[-1] += f" ({access.why})" if access.why else ""
    return f"Needs {' and '.join(needed)}." if needed else "Needs no token."


def _parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    for name in _PATH.findall(operation.path):
        schema = _PARAMETERS.get(name, _IDENTIFIER)
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    texts = _field_texts(operation.query) if msgspec.structs.fields(operation.query) else {}
    schema = msgspec.json.schema_components([operation.query], ref_template=_REF)[1].get(operation.query.__name__, {})
    for name, described in schema.get("properties", {}).items():
        parameter = {"name": name, "in": "query", "required": False, "schema": _without_null(described)}
        if name in texts:
            parameter["description"] = texts[name]
        yield parameter
    for name, text in operation.headers:
        yield {
            "name": name,
            "in": "header",
            "required": False,
            "description": text,
            "schema": _PARAMETERS.get(name, _HEADER_TEXT),
        }


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" not in schema:
        return schema
    kinds = [kind for kind in schema["anyOf"] if kind.get("type") != "null"]
    default = {"default": schema["default"]} if schema.get("default") is not None else {}
    return {**(kinds[0] if len(kinds) == 1 else {"anyOf": kinds}), **default}


def _request_content(operation: Operation) -> dict[str, Any]:
    assert operation.body is not None
    content: dict[str, Any] = {}
    for media_type in operation.media_types:
        if media_type == NDJSON_TYPE:
            content[media_type] = {"schema": {"type": "string", "description": "One record a line."}}
        else:
            content[media_type] = {"schema": {"$ref": _REF.format(name=operation.body.__name__)}}
    return content


def _responses(operation: Operation) -> dict[str, Any]:
    found: dict[int, dict[str, Any]] = {}
    for status, kind in operation.answers.items():
        answer: dict[str, Any] = {"description": "Done" if kind is None else (kind.__doc__ or "Done").strip()}
        if kind is not None:
            answer["content"] = {operation.answer_type: {"schema": {"$ref": _REF.format(name=kind.__name__)}}}
        elif status != 204:
            answer["content"] = {operation.answer_type: {"schema": {"type": "string"}}}
        if operation.answer_headers:
            answer["headers"] = dict(_headers(operation.answer_headers, required=False))
        found[status] = answer
    by_status: dict[int, list[type[BrokerError]]] = defaultdict(list)
    for error in problems_of(operation):
        by_status[status_of(error)].append(error)
    for status, problems in sorted(by_status.items()):
        found[status] = _problem(problems)
    for status, headers in _HEADERS.items():
        if status in found:
            found[status]["headers"] = dict(_headers(headers.items(), required=True))
    return {str(status): answer for status, answer in sorted(found.items())}


def _problem(problems: Sequence[type[BrokerError]]) -> dict[str, Any]:
    codes = sorted(problem.code for problem in problems)
    of_these = {"properties": {"code": {"enum": codes}}}
    return {
        "description": "; ".join(f"`{problem.code}`: {_first_line(problem)}" for problem in problems),
        "content": {
            "application/problem+json": {"schema": {"allOf": [{"$ref": _REF.format(name="Problem")}, of_these]}}
        },
    }


def _headers(described: Iterable[tuple[str, str]], *, required: bool) -> Iterable[tuple[str, dict[str, Any]]]:
    for name, text in described:
        yield name, {"description": text, "required": required, "schema": {"type": "string"}}


def _first_line(error: type[BrokerError]) -> str:
    return (error.__doc__ or "").strip().partition("\n")[0]
