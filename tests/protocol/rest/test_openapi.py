"""The OpenAPI document and its page: complete, self-contained, and true to what the code does."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import httpx
import jsonschema_rs
import pytest

from brokers.rest.problems import catalogue
from messaging_site import asgi
from tests.server import Server

Json = dict[str, Any]


@pytest.fixture(scope="module")
def document(server: Server) -> Json:
    with server.client(None) as anyone:
        answer = anyone.get("/api/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found: Json = answer.json()
    return found


@pytest.fixture(scope="module")
def page(server: Server) -> httpx.Response:
    with server.client(None) as anyone:
        return anyone.get("/api/docs")


# -- the document ---------------------------------------------------------------------------------------------------


def test_it_is_openapi_3_1_with_every_operation(document: Json) -> None:
    assert document["openapi"].startswith("3.1")
    described = {
        (method.upper(), path, operation["operationId"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    declared = [*asgi.rest.operations, *asgi.health.operations, *asgi.streams.operations]
    assert described == {(operation.method, operation.path, operation.name) for operation in declared}


def test_every_reference_leads_somewhere(document: Json) -> None:
    references = set(re.findall(r"'\$ref': '#/components/schemas/(\w+)'", repr(document)))
    assert len(references) > 20
    assert references <= set(document["components"]["schemas"])


def test_every_schema_is_a_schema(document: Json) -> None:
    for name, schema in document["components"]["schemas"].items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
        assert schema["description"], name


def test_the_codes_of_every_refusal_are_listed(document: Json) -> None:
    statuses = {code: status for code, status, _ in catalogue()}
    listed = set()
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                content = answer.get("content", {}).get("application/problem+json")
                if content is not None:
                    codes = content["schema"]["allOf"][1]["properties"]["code"]["enum"]
                    assert {statuses[code] for code in codes} == {int(status)}
                    listed |= set(codes)
    unlisted = set(statuses) - listed
    assert unlisted <= {"error", "conflict", "unencodable_value", "idempotency_in_progress", "progress_finished"}


def test_streams_are_described_event_by_event(document: Json) -> None:
    streams = {path: methods["get"]["responses"] for path, methods in document["paths"].items() if "/stream" in path}
    assert {path: set(answers) & {"200", "204", "400", "429"} for path, answers in streams.items()} == {
        "/api/v1/topics/{topic}/stream": {"200", "400", "429"},
        "/api/notifications/stream": {"200", "400", "429"},
        "/api/progress/{task_id}/stream": {"200", "204", "400", "429"},
    }
    for answers in streams.values():
        [(media_type, content)] = answers["200"]["content"].items()
        event = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        assert media_type == "text/event-stream"
        assert event["required"] == ["event", "data"]
        assert event["properties"]["data"]["contentMediaType"] == "application/json"


def test_request_bodies_refuse_unknown_fields(document: Json) -> None:
    for methods in document["paths"].values():
        for operation in methods.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if "$ref" in content["schema"]:
                    name = content["schema"]["$ref"].rpartition("/")[2]
                    assert document["components"]["schemas"][name]["additionalProperties"] is False


def test_docstrings_of_fields_are_their_descriptions(document: Json) -> None:
    fields = document["components"]["schemas"]["TopicDeclaration"]["properties"]
    assert "Milliseconds" in fields["retention_ms"]["description"]
    renamed = document["components"]["schemas"]["PollRequest"]["properties"]
    assert "read on" in renamed["from"]["description"]


def test_an_optional_parameter_is_not_null_but_absent(document: Json) -> None:
    parameters = document["paths"]["/api/v1/topics/{topic}/partitions/{partition}/records"]["get"]["parameters"]
    timestamp = next(parameter for parameter in parameters if parameter["name"] == "timestamp")
    assert timestamp["schema"]["type"] == "integer"
    assert not timestamp["required"]


# -- the page -------------------------------------------------------------------------------------------------------


class Parts(HTMLParser):
    """What a page refers to, and what it defines."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                (self.loads if tag == "link" else self.links).append(value or "")
            elif name == "src":
                self.loads.append(value or "")
            elif name == "style" or name.startswith("on"):
                self.inline.append(f"{tag} {name}")


def parsed(page: httpx.Response) -> Parts:
    found = Parts()
    found.feed(page.text)
    return found


def test_the_page_runs_nothing_and_loads_nothing_from_elsewhere(page: httpx.Response) -> None:
    found = parsed(page)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script" not in found.tags
    assert "style" not in found.tags
    assert found.inline == []
    assert all(loaded.startswith("/static/") for loaded in found.loads)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"


def test_what_the_page_loads_is_there(server: Server, page: httpx.Response) -> None:
    with server.client(None) as anyone:
        for loaded in parsed(page).loads:
            assert anyone.get(loaded).status_code == 200, loaded


def test_every_anchor_is_there_once(page: httpx.Response) -> None:
    found = parsed(page)
    assert sorted(found.ids) == sorted(set(found.ids))
    wanted = {link[1:] for link in found.links if link.startswith("#")}
    assert wanted <= set(found.ids)


def test_the_page_shows_every_operation_and_every_code(page: httpx.Response) -> None:
    ids = set(parsed(page).ids)
    declared = [*asgi.rest.operations, *asgi.health.operations, *asgi.streams.operations]
    assert {operation.name for operation in declared} <= ids
    assert {code for code, _, _ in catalogue()} <= ids


def test_a_problems_type_leads_to_its_meaning(server: Server, page: httpx.Response) -> None:
    with server.client(None) as anyone:
        where = anyone.get("/api/v1/topics").json()["type"]
    path, _, anchor = where.partition("#")
    assert path == "/api/docs"
    assert anchor in parsed(page).ids
