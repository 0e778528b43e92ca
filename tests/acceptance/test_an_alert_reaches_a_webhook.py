"""A whole server with two listener processes: an alert reaches a webhook once, signed, and so does its end."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg

from tests.server import fresh_database, running, unique

SECRET = "whsec-of-the-tests"


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def test_an_alert_on_lag_is_told_once_and_its_end_once() -> None:
    calls: list[tuple[str, bytes]] = []
    refusals = [503]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            calls.append((self.headers["x-waystation-signature"], body))
            self.send_response(refusals.pop() if refusals else 204)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    def told() -> list[tuple[str, int]]:
        return [(json.loads(body)["event"], json.loads(body)["attempt"]) for _, body in calls]

    topic, group = unique(), unique("group")
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    try:
        with (
            fresh_database() as url,
            running(url, WAYSTATION_LISTENER_PROCESSES="2") as server,
            server.client() as api,
            psycopg.connect(url, autocommit=True) as database,
        ):
            api.post("/api/v1/topics", json={"name": topic, "partitions": 2}).raise_for_status()
            records = {"records": [{"value": number} for number in range(25)]}
            api.post(f"/api/v1/topics/{topic}/records", json=records).raise_for_status()
            reset = f"/api/v1/groups/{group}/resets"
            api.post(reset, json={"topic": topic, "to": "earliest", "dry_run": False}).raise_for_status()
            database.execute(
                "insert into brokers_alert_rule (name, metric, source, group_name, threshold, for_seconds, severity,"
                " to_log, emails, webhook_url, webhook_secret, runbook_url, enabled, error)"
                " values ('lags', 'group_lag', '', %s, 20, 0, 'critical', true, '', %s, %s, '', true, '')",
                [group, f"http://127.0.0.1:{receiver.server_address[1]}/", SECRET],
            )
            until(lambda: told() == [("raised", 1)])
            refused = "select count(*) from brokers_alert_notification where error = 'the server answered 503'"
            until(lambda: database.execute(refused).fetchone() == (1,))
            database.execute("update brokers_alert_notification set due_at = now() where delivered_at is null")
            until(lambda: told() == [("raised", 1), ("raised", 2)])
            api.post(reset, json={"topic": topic, "to": "latest", "dry_run": False}).raise_for_status()
            until(lambda: len(calls) == 3)
            row = database.execute("select evaluated_at from brokers_alert_rule").fetchone()
            until(lambda: database.execute("select evaluated_at from brokers_alert_rule").fetchone() != row)
            counted = "select count(*), count(resolved_at) from brokers_alert"
            assert database.execute(counted).fetchone() == (1, 1)
            delivered = (
                "select event, count(*) from brokers_alert_notification where delivered_at is not null group by 1"
            )
            until(lambda: dict(database.execute(delivered).fetchall()) == {"raised": 2, "resolved": 2})
    finally:
        receiver.shutdown()
        receiver.server_close()
    assert told() == [("raised", 1), ("raised", 2), ("resolved", 1)]
    assert json.loads(calls[0][1])["scope"] == f"group {group} of topic {topic}"
    assert json.loads(calls[0][1])["value"] == 25
    for signature, body in calls:
        at, _, digest = signature.partition(",v1=")
        signed = at.removeprefix("t=").encode() + b"." + body
        assert hmac.compare_digest(digest, hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest())
