"""Schemathesis reads the running server's OpenAPI document and tries to catch the two disagreeing.

Two runs on a server of their own, with a fixed seed: one knows nothing and mostly meets 4xx; the other names topics,
groups, members, exchanges and queues that are there, and so gets inside. No answer may be 5xx, and each must be as the
document says: status, media type, headers, schema; what the document allows is accepted and what it forbids is refused.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from messaging_site import asgi
from tests.protocol.rest import schemathesis_hooks
from tests.protocol.rest.seeded_failures import failing, seeding
from tests.protocol.rest.seeded_tasks import run_of, task_of
from tests.server import ROOT, Server, fresh_database, running

SECONDS = 240
REVOKE = "DELETE /api/v1/tokens/{id}"
CONFIG = f"""
# 422 is also what JSON schema cannot express: 1.0 for a whole number, two offsets of one partition, an expiry that has
# passed. 410, 413 and 429 depend on what is stored.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "410", "413", "422", "429"]

# 413 is also more items than a request may hold.
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"]

# A stream begins with an event, and its next may never come; what later ones hold is tests/protocol/sse's to check.
[[operations]]
include-path-regex = "/stream$"
max-stream-events = 1

# 400 is also an event id that the stream has not given out.
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "422", "429"]

[[operations]]
include-name = "{REVOKE}"
phases.stateful.enabled = false
parameters = {{ "path.id" = "00000000" }}
"""
MEMBERSHIP = {"topics": ["still"], "session_timeout_ms": 1_000_000, "max_poll_interval_ms": 1_000_000}
"""Of members that outlive the run."""
DECLARED = [*asgi.rest.operations, *asgi.health.operations, *asgi.streams.operations]
OPERATIONS = {operation.name for operation in DECLARED} - {"get_openapi"}
"""All but the document itself, which Schemathesis has read already."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One that may be left full of rubbish."""
    with fresh_database() as url, running(url) as started:
        yield started


def schemathesis(server: Server, directory: Path, config: str, *options: str, known: str = "") -> dict[str, set[int]]:
    """Runs it; the statuses that each operation answered."""
    directory.joinpath("config.toml").write_text(config)
    report = directory / "report.har"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(directory / "config.toml"), "run"]
    command += [f"{server.url}/api/openapi.json", "--header", f"Authorization: Bearer {server.admin_token}"]
    command += ["--checks", "all", "--warnings", "off", "--report-har-path", str(report), *options]
    hooks = {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": schemathesis_hooks.__name__}
    hooks[schemathesis_hooks.KNOWN] = known
    done = subprocess.run(
        command, cwd=directory, env=os.environ | hooks, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return answered(report)


def answered(report: Path) -> dict[str, set[int]]:
    found: defaultdict[str, set[int]] = defaultdict(set)
    routes = [(operation, re.compile(re.sub(r"\{\w+\}", "[^/]+", operation.path))) for operation in DECLARED]
    for entry in json.loads(report.read_text())["log"]["entries"]:
        path = urlsplit(entry["request"]["url"]).path
        for operation, route in routes:
            if operation.method == entry["request"]["method"] and route.fullmatch(path):
                found[operation.name].add(entry["response"]["status"])
    return found


def succeeded(statuses: dict[str, set[int]]) -> set[str]:
    return {name for name, found in statuses.items() if any(200 <= status < 300 for status in found)}


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
def test_a_stranger_finds_no_disagreement(server: Server, tmp_path: Path) -> None:
    found = schemathesis(
        server, tmp_path, CONFIG, "--phases", "examples,coverage,fuzzing,stateful", "-n", "8", "--seed", "1"
    )
    assert set(found) == OPERATIONS
    assert {"post_topic", "get_topics", "get_tokens", "post_token", "get_groups"} <= succeeded(found)
    assert all(404 in statuses for name, statuses in found.items() if name in ("delete_topic", "get_partitions"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
def test_one_who_knows_what_is_there_finds_no_disagreement(server: Server, tmp_path: Path) -> None:
    with server.client() as api:
        for topic in ("known", "still"):
            assert api.post("/api/v1/topics", json={"name": topic, "partitions": 2}).status_code == 201
            records = [{"key": str(n), "value": n} for n in range(20)]
            assert api.post(f"/api/v1/topics/{topic}/records", json={"records": records}).status_code == 200
        for name in ("known", "still"):
            assert api.put(f"/api/v1/exchanges/{name}", json={}).status_code == 201
            assert api.put(f"/api/v1/queues/{name}", json={}).status_code == 201
            assert api.put(f"/api/v1/policies/{name}", json={"pattern": "^$", "max_length": 1}).status_code == 201
        binding = api.post("/api/v1/bindings", json={"exchange": "known", "queue": "known"}).json()["id"]
        members = {
            group: api.post(f"/api/v1/groups/{group}/members", json=MEMBERSHIP).json()["member_id"]
            for group in ("known", "still")
        }
        with seeding(server) as connection:
            failures = failing(api, connection, "still", "still")
            for _ in range(200):
                failures.add()
            run = run_of(connection, task_of(connection, "known"))
            connection.execute("insert into realtime_progress (id, user_name, title) values ('known', 'admin', '')")
        selections = [{"ids": failures.letters[begin : begin + 50]} for begin in (1, 51)]
        replay, ended = (
            api.post("/api/v1/replays", json={"selection": selection, "rate_per_second": 0.001}).json()["id"]
            for selection in selections
        )
    known = f"""
[[operations]]
include-name = "POST /api/v1/groups/{{group}}/members/{{member_id}}/commits"
parameters = {{ "path.group" = "still", "path.member_id" = "{members["still"]}" }}

[[operations]]
include-name = "POST /api/v1/replays/{{replay_id}}/cancel"
parameters = {{ "path.replay_id" = {ended} }}

[parameters]
"path.topic" = "known"
"path.group" = "known"
"path.member_id" = "{members["known"]}"
"path.partition" = 0
"path.exchange" = "known"
"path.queue" = "known"
"path.policy" = "known"
"path.binding_id" = {binding}
"path.dead_letter_id" = {failures.letters[0]}
"path.replay_id" = {replay}
"path.task_id" = "known"
"path.task" = "known"
"path.run_id" = {run}
"""
    options = ("--phases", "examples,coverage,fuzzing", "-n", "30", "--seed", "2", "--exclude-method", "DELETE")
    found = schemathesis(server, tmp_path, CONFIG + known, *options, known="still")
    assert succeeded(found) == {name for name in OPERATIONS if not name.startswith("delete_")}
