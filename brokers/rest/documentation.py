"""`/api/openapi.json` and `/api/docs`: the reference, served without any outside host and without a token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from html import escape
from typing import Any

import msgspec

from brokers.rest import openapi
from brokers.rest.operation import PUBLIC, Answer, Call, Handler, Operation
from brokers.rest.problems import catalogue

STYLESHEET = "/static/console/css/docs.css"
_CSP = b"default-src 'none'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"


class ApiDocument(msgspec.Struct):
    """An OpenAPI 3.1 document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


_elsewhere: dict[str, Operation] = {}


def describe(operations: Iterable[Operation]) -> None:
    """Adds operations that are served outside of `/api/` to the document, such as `/healthz`."""
    _elsewhere.update((operation.path, operation) for operation in operations)


def operations(described: Sequence[Operation]) -> list[Operation]:
    """Declarations of both, over the operations that they describe (and themselves)."""
    everything = list(described)

    @lru_cache(maxsize=1)
    def document() -> dict[str, Any]:
        return openapi.document([*everything, *_elsewhere.values()])

    async def get_openapi(call: Call) -> Answer:
        """This document."""
        return Answer(body=msgspec.json.encode(document()))

    async def get_docs(call: Call) -> Answer:
        """This document for people."""
        page = render(document()).encode()
        return Answer(body=page, content_type=b"text/html; charset=utf-8", headers=[(b"content-security-policy", _CSP)])

    everything += [
        _operation("/api/openapi.json", "The OpenAPI document", get_openapi, {200: ApiDocument}),
        _operation("/api/docs", "The browsable reference", get_docs, {200: None}, "text/html"),
    ]
    return everything[-2:]


def _operation(
    path: str, summary: str, handler: Handler, answers: dict[int, Any], answer_type: str = "application/json"
) -> Operation:
    return Operation(
        method="GET",
        path=path,
        summary=summary,
        tag="Reference",
        access=PUBLIC,
        public=True,
        handler=handler,
        answers=answers,
        answer_type=answer_type,
    )


def render(document: dict[str, Any]) -> str:
    """The reference as one page of HTML, each operation under its tag."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Waystation API</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<link rel="stylesheet" href="{STYLESHEET}"></head><body>',
        '<header><h1>Waystation API</h1><p>Every call but this page and <a href="/api/openapi.json">the OpenAPI ',
        "document</a> takes <code>Authorization: Bearer &lt;token&gt;</code>.</p></header>",
        _navigation(document),
        "<main>",
    ]
    for tag in document["tags"]:
        name = tag["name"]
        parts.append(f'<section><h2 id="{escape(name)}">{escape(name)}</h2>')
        for path, methods in document["paths"].items():
            parts += [_operation_html(path, method, it) for method, it in methods.items() if name in it["tags"]]
        parts.append("</section>")
    parts += [_problems_html(), _schemas_html(document), "</main></body></html>"]
    return "".join(parts)


def _navigation(document: dict[str, Any]) -> str:
    links = [*(tag["name"] for tag in document["tags"]), "Problems", "Schemas"]
    return (
        "<nav><ul>"
        + "".join(f'<li><a href="#{escape(name)}">{escape(name)}</a></li>' for name in links)
        + "</ul></nav>"
    )


def _operation_html(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [
        f'<details class="operation" id="{escape(operation["operationId"])}"><summary><b class="method {method}">',
        f"{method.upper()}</b> <code>{escape(path)}</code> <span>{escape(operation['summary'])}</span></summary>",
        *(f"<p>{_code(text)}</p>" for text in operation["description"].split("\n\n")),
    ]
    if operation["parameters"]:
        rows = [
            f"<tr><td><code>{escape(p['name'])}</code></td><td>{p['in']}</td><td>{_schema_text(p['schema'])}</td>"
            f"<td>{_code(p.get('description', ''))}</td></tr>"
            for p in operation["parameters"]
        ]
        parts.append(_table(("Parameter", "In", "Type", "Meaning"), rows))
    if "requestBody" in operation:
        for media_type, content in operation["requestBody"]["content"].items():
            parts.append(f"<h4>Body <code>{escape(media_type)}</code>: {_schema_text(content['schema'])}</h4>")
    rows = []
    for status, answer in operation["responses"].items():
        described: dict[str, Any] = next(iter(answer.get("content", {}).values()), {})
        schema = described.get("schema", {})
        shape = "Problem" if "allOf" in schema else _schema_text(schema) if schema else ""
        rows.append(f"<tr><td>{status}</td><td>{shape}</td><td>{_code(answer['description'])}</td></tr>")
    parts += [_table(("Status", "Body", "Meaning"), rows), "</details>"]
    return "".join(parts)


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _code(text: str) -> str:
    """Escaped text, with what stands between backticks as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))


def _schema_text(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_schema_text, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_schema_text(schema.get('items', {}))}"
    text = escape(str(schema.get("type", "any JSON")))
    limits = [f"{sign} {schema[key]}" for key, sign in (("minimum", "≥"), ("maximum", "≤")) if key in schema]
    if "default" in schema and schema["default"] not in ("", None):
        limits.append(f"default {escape(str(schema['default']))}")
    return f"{text} ({', '.join(limits)})" if limits else text


def _problems_html() -> str:
    rows = [
        f'<tr id="{code}"><td><code>{code}</code></td><td>{status}</td><td>{_code(text)}</td></tr>'
        for code, status, text in catalogue()
    ]
    return '<section><h2 id="Problems">Problems</h2>' + _table(("Code", "Status", "Meaning"), rows) + "</section>"


def _schemas_html(document: dict[str, Any]) -> str:
    parts = ['<section><h2 id="Schemas">Schemas</h2>']
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.append(f'<h3 id="schema-{escape(name)}">{escape(name)}</h3><p>{_code(schema.get("description", ""))}</p>')
        required = schema.get("required", [])
        rows = [
            f"<tr><td><code>{escape(field)}</code></td><td>{_schema_text(kind)}</td>"
            f"<td>{'required' if field in required else ''}</td><td>{_code(kind.get('description', ''))}</td></tr>"
            for field, kind in schema.get("properties", {}).items()
        ]
        parts.append(_table(("Field", "Type", "", "Meaning"), rows))
    return "".join(parts) + "</section>"
