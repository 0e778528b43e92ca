"""`/healthz`, `/readyz`, `/metrics`: of a whole server, of one whose stores go away, and of the application alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import httpx
import psycopg
import pytest

from brokers.selectors import parts
from messaging_site import health
from messaging_site.health import HealthApplication
from messaging_site.lifespan import Lifespan
from tests.server import Server, fresh_database, running, unique

HEALTHY = [parts.Part("PostgreSQL", "healthy", "1 ms"), parts.Part("Valkey", "healthy", "1 ms")]


@pytest.fixture
def anyone(server: Server) -> Iterator[httpx.Client]:
    with server.client(None) as client:
        yield client


# -- a whole server -------------------------------------------------------------------------------------------------


def test_a_healthy_server_says_so(anyone: httpx.Client) -> None:
    alive = anyone.get("/healthz")
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    ready = anyone.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["ready"] is True
    assert ready.json()["reasons"] == []
    assert set(ready.json()["parts"]) == {"PostgreSQL", "Valkey"}
    for answer in (alive, ready):
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_health_can_only_be_read(anyone: httpx.Client, path: str) -> None:
    for method in ("POST", "DELETE", "OPTIONS"):
        answer = anyone.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.json()["code"] == "method_not_allowed"
    head = anyone.head(path)
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Host": "rebound.example.com"},
        {"Host": "localhost.example.com"},
        {"Host": ""},
    ],
    ids=str,
)
def test_figures_are_for_this_machine_or_with_a_token(
    server: Server, anyone: httpx.Client, api: httpx.Client, headers: dict[str, str]
) -> None:
    """A proxy, or a foreign page whose name was made to lead here, is not this machine."""
    assert anyone.get("/metrics").status_code == 200
    refused = anyone.get("/metrics", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert anyone.get("/metrics", headers=headers | {"Authorization": "Bearer " + "x" * 30}).status_code == 401
    assert api.get("/metrics", headers=headers).status_code == 200
    grant = {"operation": "describe", "resource_type": "server", "name": ""}
    for grants, status in (([], 403), ([grant], 200)):
        token = api.post("/api/v1/tokens", json={"name": "scraper", "grants": grants}).json()["token"]
        with server.client(token) as client:
            assert client.get("/metrics", headers=headers).status_code == status


def test_answers_are_counted_and_timed_by_operation(api: httpx.Client) -> None:
    topic = unique()
    api.post("/api/v1/topics", json={"name": topic})
    before = figures(api)
    for _ in range(3):
        api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value": 1}]})
    api.post(f"/api/v1/topics/{topic}/records", content=b"{", headers={"Content-Type": "application/json"})
    api.get("/api/v1/nothing")

    def grown(name: str) -> float:
        return figures(api).get(name, 0) - before.get(name, 0)

    expected = {
        'waystation_requests_total{operation="post_records",status="200"}': 3,
        'waystation_requests_total{operation="post_records",status="400"}': 1,
        'waystation_requests_total{operation="unknown",status="404"}': 1,
        'waystation_request_seconds_count{operation="post_records"}': 4,
        'waystation_request_seconds_bucket{le="+Inf",operation="post_records"}': 4,
        "waystation_records_published_total": 3,
    }
    wait_for(lambda: {name: grown(name) for name in expected} == expected, lambda: {n: grown(n) for n in expected})
    assert grown('waystation_request_seconds_sum{operation="post_records"}') > 0


@pytest.mark.parametrize("operation", ["get_records", "post_poll"])
def test_a_held_call_ends_when_its_caller_has_gone(server: Server, api: httpx.Client, operation: str) -> None:
    topic, group = unique(), unique("g")
    api.post("/api/v1/topics", json={"name": topic, "partitions": 1})
    member = api.post(f"/api/v1/groups/{group}/members", json={"topics": [topic]}).json()["member_id"]
    gone = f'waystation_requests_total{{operation="{operation}",status="499"}}'
    before = figures(api).get(gone, 0)
    with server.client(timeout=0.5) as impatient, pytest.raises(httpx.ReadTimeout):
        if operation == "get_records":
            impatient.get(f"/api/v1/topics/{topic}/partitions/0/records", params={"wait_ms": 30000})
        else:
            impatient.post(f"/api/v1/groups/{group}/members/{member}/poll", json={"wait_ms": 30000})
    wait_for(lambda: figures(api).get(gone, 0) == before + 1, lambda: figures(api))


def figures(api: httpx.Client) -> dict[str, float]:
    lines = api.get("/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def wait_for(condition: Callable[[], bool], found: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, found()
        time.sleep(0.05)


# -- stores that go away --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_store_that_is_away_is_named_and_comes_back() -> None:
    """Redis is away throughout: only named. Then the database takes no connections for a while."""
    with (
        fresh_database() as url,
        running(url, REDIS_URL="redis://127.0.0.1:1/0") as started,
        started.client() as client,
    ):
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["parts"]["Valkey"].startswith("degraded")
        topic = unique()
        records = f"/api/v1/topics/{topic}/records"
        assert client.post("/api/v1/topics", json={"name": topic, "partitions": 1}).status_code == 201
        assert client.post(records, json={"records": [{"value": 1}]}).status_code == 200

        with cut_off(url):
            away = client.get("/readyz")
            assert away.status_code == 503
            assert away.json()["ready"] is False
            assert any("PostgreSQL" in reason for reason in away.json()["reasons"])
            assert "retry-after" in away.headers
            assert client.get("/healthz").status_code == 200
            assert client.get("/api/openapi.json").status_code == 200
            assert figures(client)["waystation_database_up"] == 0
            for answer in (
                client.post(records, json={"records": [{"value": 2}]}),
                client.get(f"/api/v1/topics/{topic}/partitions/0/records"),
                client.get("/api/v1/topics"),
                client.post("/api/v1/topics", json={"name": unique()}),
            ):
                assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text
                assert answer.headers["retry-after"] == "1"

        wait_for(lambda: client.get("/readyz").status_code == 200, lambda: client.get("/readyz").text, 20)
        wait_for(
            lambda: client.post(records, json={"records": [{"value": 3}]}).status_code == 200,
            lambda: started.log.read_text(),
            20,
        )
        values = [r["value"] for r in client.get(f"/api/v1/topics/{topic}/partitions/0/records").json()["records"]]
        assert (values[0], values[-1]) == (1, 3)
        assert 2 not in values
        assert "Traceback" not in started.log.read_text()


class cut_off:  # noqa: N801 - used as a function
    """Inside of the block, the database ends its connections and takes none."""

    def __init__(self, url: str) -> None:
        self._name = url.rpartition("/")[2]
        self._maintenance = url.removesuffix(self._name) + "postgres"

    def __enter__(self) -> None:
        self._allow("false")
        with psycopg.connect(self._maintenance, autocommit=True) as admin:
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (self._name,))

    def __exit__(self, *exc: object) -> None:
        self._allow("true")

    def _allow(self, connections: str) -> None:
        with psycopg.connect(self._maintenance, autocommit=True) as admin:
            admin.execute(f"alter database {self._name} with allow_connections {connections}")


# -- the application alone ------------------------------------------------------------------------------------------


class Draining:
    """Stands in for the lifespan."""

    def __init__(self, draining: bool = False) -> None:
        self.draining = draining


def application(draining: bool = False) -> HealthApplication:
    return HealthApplication(cast("Lifespan", Draining(draining)))


async def asked(app: HealthApplication, path: str, client: str = "127.0.0.1", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=cast("Any", app), client=(client, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as browser:
        return await browser.get(path)


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> list[parts.Part]:
    """What the stores are found to be; all migrations are there."""
    found = list(HEALTHY)
    monkeypatch.setattr(parts, "stores", lambda: found)
    monkeypatch.setattr(health, "_unapplied", list)
    return found


async def test_a_process_that_stops_is_not_ready(stores: list[parts.Part]) -> None:
    answer = await asked(application(draining=True), "/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["the process is stopping"])


async def test_a_missing_migration_is_named(stores: list[parts.Part], monkeypatch: pytest.MonkeyPatch) -> None:
    app = application()
    monkeypatch.setattr(health, "_unapplied", lambda: ["brokers.0009_later"])
    answer = await asked(app, "/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["migration brokers.0009_later is not applied"])
    monkeypatch.setattr(health, "_unapplied", list)
    assert (await asked(app, "/readyz")).status_code == 200


async def test_only_a_store_that_is_down_makes_it_unready(stores: list[parts.Part]) -> None:
    stores[:] = [parts.Part("PostgreSQL", "degraded", "slow"), parts.Part("Valkey", "degraded", "away")]
    assert (await asked(application(), "/readyz")).status_code == 200
    stores[:] = [parts.Part("PostgreSQL", "down", "refused"), HEALTHY[1]]
    answer = await asked(application(), "/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["PostgreSQL: refused"])


async def test_a_database_that_hangs_is_down_and_takes_one_thread_only(
    stores: list[parts.Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    release, looks = threading.Event(), []

    def hang() -> list[parts.Part]:
        looks.append(1)
        release.wait(10)
        return HEALTHY

    monkeypatch.setattr(parts, "stores", hang)
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.1)
    app = application()
    try:
        answers = await asyncio.gather(*(asked(app, "/readyz") for _ in range(20)))
        answers.append(await asked(app, "/readyz"))
        assert {answer.status_code for answer in answers} == {503}
        assert "has not answered" in answers[0].json()["reasons"][0]
        assert len(looks) == 1
    finally:
        release.set()
    monkeypatch.setattr(health, "CHECK_SECONDS", 5.0)
    assert (await asked(app, "/readyz")).status_code == 200


@pytest.mark.parametrize("client", ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "unix"])
async def test_figures_for_another_machine_need_a_token(client: str) -> None:
    answer = await asked(application(), "/metrics", client)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == 'Bearer realm="waystation"'
