"""Locks over REST: listing them, releasing one by force, and who may."""

from __future__ import annotations

import secrets
from urllib.parse import quote

import httpx
import psycopg
import pytest

from tests.server import Server, unique


@pytest.fixture
def held(server: Server) -> str:
    """The name of a lock that another ShedLock client holds for an hour; with what only such a client would write."""
    name = f"{unique('lock')}: every hour/\u20ac"
    take(server, name, "interval '1 hour'")
    return name


def take(server: Server, name: str, duration: str) -> None:
    with psycopg.connect(server.database_url, autocommit=True) as conn:
        conn.execute(
            "insert into shedlock values (%s, timezone('utc', now()) + " + duration + ", timezone('utc', now()), %s)",
            (name, "java-host"),
        )


def path(name: str) -> str:
    return f"/api/v1/locks/{quote(name, safe='')}"


def found(api: httpx.Client, name: str) -> dict[str, str] | None:
    page = api.get("/api/v1/locks", params={"limit": 1000})
    assert page.status_code == 200
    matching: list[dict[str, str]] = [each for each in page.json()["items"] if each["name"] == name]
    return matching[0] if matching else None


def granted(api: httpx.Client, *grants: tuple[str, str]) -> str:
    body = {
        "name": unique("token"),
        "grants": [
            {"operation": operation, "resource_type": "lock", "name": name, "match": "prefix"}
            for operation, name in grants
        ],
    }
    made = api.post("/api/v1/tokens", json=body)
    assert made.status_code == 201, made.text
    token: str = made.json()["token"]
    return token


def test_a_held_lock_says_who_holds_it_and_until_when(api: httpx.Client, held: str) -> None:
    lock = found(api, held)
    assert lock is not None
    assert (lock["state"], lock["locked_by"]) == ("held", "java-host")
    assert lock["locked_at"] < lock["lock_until"]
    assert lock["lock_until"].endswith("Z")


def test_releasing_frees_it_and_tells_who_did(api: httpx.Client, held: str) -> None:
    assert api.delete(path(held)).status_code == 204
    lock = found(api, held)
    assert lock is not None
    assert lock["state"] == "free"
    assert lock["locked_by"].startswith("released by ")
    assert api.delete(path(held)).status_code == 204


def test_a_lock_that_never_was_is_not_found(api: httpx.Client) -> None:
    refused = api.delete(path(unique("never")))
    assert (refused.status_code, refused.json()["code"]) == (404, "lock_not_found")
    assert api.delete(path("n" * 65)).status_code == 422


def test_lists_have_pages(api: httpx.Client, server: Server) -> None:
    prefix = unique("page")
    for number in range(3):
        take(server, f"{prefix}-{number}", "interval '0'")
    first = api.get("/api/v1/locks", params={"limit": 2, "after": prefix}).json()
    assert [each["name"] for each in first["items"]] == [f"{prefix}-0", f"{prefix}-1"]
    second = api.get("/api/v1/locks", params={"limit": 2, "after": first["next"]}).json()
    assert second["items"][0]["name"] == f"{prefix}-2"


def test_who_may_see_and_release(api: httpx.Client, server: Server) -> None:
    prefix = f"p{secrets.token_hex(4)}"
    for team in ("a", "b"):
        take(server, f"{prefix}.{team}", "interval '1 hour'")
    with server.client(None) as nobody:
        assert nobody.get("/api/v1/locks").status_code == 401
    with server.client(granted(api, ("describe", f"{prefix}.a"))) as reader:
        assert [each["name"] for each in reader.get("/api/v1/locks").json()["items"]] == [f"{prefix}.a"]
        assert reader.delete(path(f"{prefix}.a")).status_code == 403
        assert reader.delete(path(f"{prefix}.none")).status_code == 403
    with server.client(granted(api, ("alter", f"{prefix}.b"))) as operator:
        assert operator.delete(path(f"{prefix}.a")).status_code == 403
        assert operator.delete(path(f"{prefix}.b")).status_code == 204
    lock = found(api, f"{prefix}.a")
    assert lock is not None
    assert lock["state"] == "held"
