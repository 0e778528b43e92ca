"""Renders the OpenAPI document as one page of HTML: no script, no inline style, nothing from elsewhere.

Called by `documentation`. The look is `static/console/css/docs.css`, on the console's colour tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from brokers.rest.problems import catalogue

Json = dict[str, Any]
_STATIC = "/static/console"
_HEAD = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>API reference · Waystation</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="{_STATIC}/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="{_STATIC}/css/tokens.css">
<link rel="stylesheet" href="{_STATIC}/css/docs.css">
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
"""
_BEGINNING = """<section aria-labelledby="start"><h2 id="start">Start here</h2>
<p>Every call takes an API token in its <code>Authorization</code> header, but for those marked <em>public</em>.
Bodies are JSON in UTF-8; unknown fields and parameters are refused. Whatever is refused says why
as a <a href="#problems">problem document</a>. This page as
<a href="/api/openapi.json">OpenAPI 3.1</a>; people sign in to the <a href="/admin/">console</a>.</p>
<pre tabindex="0"><code>export URL=http://127.0.0.1:8000 TOKEN=&lt;your token&gt;

curl $URL/api/v1/topics -H "Authorization: Bearer $TOKEN" \\
  -H "Content-Type: application/json" -d '{"name": "orders", "partitions": 3}'

curl $URL/api/v1/topics/orders/records -H "Authorization: Bearer $TOKEN" \\
  -H "Content-Type: application/json" -d '{"records": [{"key": "42", "value": {"total": 9.5}}]}'

curl "$URL/api/v1/topics/orders/partitions/0/records?offset=earliest" \\
  -H "Authorization: Bearer $TOKEN"</code></pre></section>
"""


def render(document: Json) -> str:
    """The page."""
    operations = [
        (path, method, described)
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    ]
    sections = []
    for tag in document["tags"]:
        name = tag["name"]
        ours = [found for found in operations if name in found[2]["tags"]]
        articles = "".join(_operation(path, method, described, document) for path, method, described in ours)
        slug = _slug(name)
        sections.append(f'<section aria-labelledby="{slug}"><h2 id="{slug}">{escape(name)}</h2>{articles}</section>\n')
    return "".join(
        [
            _HEAD,
            _navigation(document, operations),
            '<main id="main" tabindex="-1"><h1>API reference</h1>\n',
            _BEGINNING,
            *sections,
            _problems(),
            _schemas(document),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _navigation(document: Json, operations: Sequence[tuple[str, str, Json]]) -> str:
    groups = []
    for tag in document["tags"]:
        links = "".join(
            f'<li><a href="#{escape(described["operationId"])}">{escape(described["summary"])}</a></li>'
            for _, _, described in operations
            if tag["name"] in described["tags"]
        )
        groups.append(f'<li><a href="#{_slug(tag["name"])}">{escape(tag["name"])}</a><ul>{links}</ul></li>')
    return (
        '<nav aria-label="Reference"><p class="brand"><a href="/admin/">Waystation</a> API</p><ul>'
        f'<li><a href="#start">Start here</a></li>{"".join(groups)}'
        '<li><a href="#problems">Problems</a></li><li><a href="#schemas">Schemas</a></li></ul></nav>\n'
    )


# -- operations ---------------------------------------------------------------------------------------------------


def _operation(path: str, method: str, described: Json, document: Json) -> str:
    name = escape(described["operationId"])
    public = "" if described["security"] else ' <span class="public">public</span>'
    route = escape(path).replace("/", "/<wbr>")
    return "".join(
        [
            f'<article aria-labelledby="{name}"><h3 id="{name}"><a href="#{name}">',
            f"{escape(described['summary'])}</a>{public}</h3>",
            f'<p class="route"><b class="method {method}">{method.upper()}</b> <code>{route}</code></p>',
            *(f"<p>{_code(text)}</p>" for text in described["description"].split("\n\n")),
            _parameters(described["parameters"]),
            _body(described.get("requestBody"), document),
            _answers(described["responses"]),
            "</article>\n",
        ]
    )


def _parameters(parameters: Sequence[Json]) -> str:
    rows = [
        (
            f"<code>{escape(found['name'])}</code>",
            "required" if found["required"] else "",
            _type(found["schema"]),
            " ".join(filter(None, (_code(found.get("description", "")), _default(found["schema"])))),
            f"in the {found['in']}",
        )
        for found in parameters
    ]
    heads = ("Parameter", "", "Type", "Meaning", "Where")
    return f"<h4>Parameters</h4>{_table(heads, rows)}" if rows else ""


def _body(body: Json | None, document: Json) -> str:
    if body is None:
        return ""
    parts = []
    for media_type, content in body["content"].items():
        schema = content["schema"]
        parts.append(f"<h4>Body <code>{escape(media_type)}</code></h4>")
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            described = document["components"]["schemas"][name]
            parts.append(f'<p><a href="#schema-{name}">{name}</a>: {_code(described.get("description", ""))}</p>')
            parts.append(_fields(described))
        else:
            parts.append(f"<p>{_code(schema.get('description', ''))}</p>")
    return "".join(parts)


def _answers(responses: Json) -> str:
    done, refused = [], []
    for status, answer in responses.items():
        contents: Json = answer.get("content", {})
        media_type = next(iter(contents), "")
        if media_type == "application/problem+json":
            refused.append((f"<b>{status}</b>", _items(answer["description"])))
            continue
        schema = contents[media_type].get("schema") if contents else None
        shape = _type(schema) if schema and "$ref" in schema else escape(media_type) or "no body"
        headers = ", ".join(f"<code>{escape(name)}</code>" for name in answer.get("headers", {}))
        meaning = _code(answer["description"]) + (f"<br>Headers: {headers}" if headers else "")
        done.append((f"<b>{status}</b>", shape, meaning))
    return (
        f"<h4>Answers</h4>{_table(('Status', 'Body', 'Meaning'), done)}"
        f"<details><summary>Refusals: {', '.join(re.sub('<.*?>', '', row[0]) for row in refused)}</summary>"
        f"{_table(('Status', 'Codes'), refused)}</details>"
    )


def _items(text: str) -> str:
    return "<br>".join(map(_code, re.split(r"; (?=`)", text)))


# -- problems and schemas -----------------------------------------------------------------------------------------


def _problems() -> str:
    rows = [(f'<code id="{code}">{code}</code>', str(status), _code(text)) for code, status, text in catalogue()]
    return (
        '<section aria-labelledby="problems"><h2 id="problems">Problems</h2>'
        "<p>Errors are <code>application/problem+json</code> (RFC 9457). Their <code>code</code> is stable; "
        "<code>errors</code> points at what is wrong in the request.</p>"
        f"{_table(('Code', 'Status', 'Meaning'), rows)}</section>\n"
    )


def _schemas(document: Json) -> str:
    parts = ['<section aria-labelledby="schemas"><h2 id="schemas">Schemas</h2>']
    for name, schema in document["components"]["schemas"].items():
        parts.append(
            f'<article aria-labelledby="schema-{name}"><h3 id="schema-{name}"><a href="#schema-{name}">{name}</a></h3>'
            f"<p>{_code(schema.get('description', ''))}</p>{_fields(schema)}</article>\n"
        )
    return "".join(parts) + "</section>\n"


def _fields(schema: Json) -> str:
    required = schema.get("required", [])
    rows = [
        (
            f"<code>{escape(name)}</code>",
            "required" if name in required else "",
            _type(kind),
            " ".join(filter(None, (_code(kind.get("description", "")), _default(kind)))),
        )
        for name, kind in schema.get("properties", {}).items()
    ]
    return _table(("Field", "", "Type", "Meaning"), rows) if rows else ""


def _type(schema: Json) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("additionalProperties"):
        return f"object of {_type(schema['additionalProperties'])}"
    return escape(str(schema.get("type", "any JSON"))) + _range(schema)


def _range(schema: Json) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if high is not None and high >= 2**63 - 1:
        high = None
    if low is not None and high is not None:
        return f", {low} to {high}"
    return f", at least {low}" if low is not None else ""


def _default(schema: Json) -> str:
    if "default" not in schema or schema["default"] in ("", []):
        return ""
    value = "null" if schema["default"] is None else str(schema["default"])
    value = value.lower() if isinstance(schema["default"], bool) else value
    return f'<span class="default">Default <code>{escape(value)}</code>.</span>'


# -- text ---------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' if name else "<td></td>" for name in heads)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="table" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _code(text: str) -> str:
    """Escaped text, with what stands between backticks as code."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))
