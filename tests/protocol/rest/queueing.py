"""What the tests of exchanges and queues over REST share: declaring, publishing, claiming, limited tokens."""

from __future__ import annotations

from typing import Any

import httpx

from tests.server import Server, unique

Json = dict[str, Any]


def queue_of(api: httpx.Client, name: str | None = None, **settings: Any) -> str:
    """Declares a queue with these settings; its name."""
    name = name or unique("q")
    answer = api.put(f"/api/v1/queues/{name}", json=settings)
    assert answer.status_code in (200, 201), answer.text
    return name


def exchange_of(api: httpx.Client, name: str | None = None, **settings: Any) -> str:
    """Declares an exchange with these settings; its name."""
    name = name or unique("x")
    answer = api.put(f"/api/v1/exchanges/{name}", json=settings)
    assert answer.status_code in (200, 201), answer.text
    return name


def bind(api: httpx.Client, exchange: str, **binding: Any) -> Json:
    """Makes a binding; how it is described."""
    answer = api.post("/api/v1/bindings", json={"exchange": exchange, **binding})
    assert answer.status_code in (200, 201), answer.text
    found: Json = answer.json()
    return found


def put(api: httpx.Client, queue: str, *bodies: Any, **properties: Any) -> list[int]:
    """Publishes bodies to a queue; their ids."""
    messages = [{"body": body, **properties} for body in bodies]
    answer = api.post(f"/api/v1/queues/{queue}/messages", json={"messages": messages})
    assert answer.status_code == 200, answer.text
    return [result["id"] for result in answer.json()["results"]]


def take(api: httpx.Client, queue: str, **wanted: Any) -> list[Json]:
    """Claims messages of a queue, one unless told otherwise."""
    answer = api.post(f"/api/v1/queues/{queue}/claims", json=wanted)
    assert answer.status_code == 200, answer.text
    found: list[Json] = answer.json()["messages"]
    return found


def described(api: httpx.Client, queue: str) -> Json:
    """A queue as it is now."""
    found: Json = api.get(f"/api/v1/queues/{queue}").json()
    return found


def limited(api: httpx.Client, server: Server, *grants: tuple[str, str, str]) -> httpx.Client:
    """A client that holds these grants alone: operation, resource type and name. Use it as a context manager."""
    given = [{"operation": operation, "resource_type": kind, "name": name} for operation, kind, name in grants]
    answer = api.post("/api/v1/tokens", json={"name": unique("token"), "grants": given})
    assert answer.status_code == 201, answer.text
    return server.client(answer.json()["token"])


def assert_refused(answer: httpx.Response, status: int, code: str, pointer: str | None = None) -> None:
    """It is a problem document of this status and code, and says where."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer, answer.text
