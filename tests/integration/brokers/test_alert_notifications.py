"""Notifications arrive: in the log, by e-mail, at webhooks that fail, hang or lead elsewhere; each once, in order."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import mail
from django.db import connection, connections
from django.db.models import F
from django.utils import timezone

from brokers.alerts import notifications, webhook
from brokers.alerts.evaluation import evaluate
from brokers.alerts.notifications import AlertRuleNotFound, send_due, send_test
from brokers.audit import Actor
from brokers.errors import InvalidValue
from brokers.models import AlertNotification, AlertRule, AuditEntry
from tests.integration.brokers.failing_sources import fail, rule, settle

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "canary-5d1e"
OPERATOR = Actor("ada", "console")


class Receiver:
    """A webhook: answers with the statuses given, then with 200, and keeps what came."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.paths: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
                receiver.paths.append(self.path)
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                receiver.paths.append(self.path)

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook?for=alerts"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.calls]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.stop()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes a call and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


def raised(**fields: object) -> AlertRule:
    """A rule that has just raised an alert on the topic `orders`."""
    made = rule(**({"to_log": False, "threshold": 3} | fields))  # type: ignore[arg-type]
    fail("orders", 3)
    assert evaluate() == 1
    return made


def all_due() -> None:
    AlertNotification.objects.update(due_at=timezone.now() - timedelta(seconds=1))


# -- channels -----------------------------------------------------------------------------------------------------


def test_the_log_says_what_was_raised_and_what_is_over(caplog: pytest.LogCaptureFixture) -> None:
    watching = raised(to_log=True, severity="critical", runbook_url="https://example.org/runbook")
    with caplog.at_level(logging.INFO, "waystation.alerts"):
        assert send_due() == 1
        settle("orders")
        evaluate()
        assert send_due() == 1
        assert send_due() == 0
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "alert raised"),
        ("INFO", "alert resolved"),
    ]
    facts = vars(caplog.records[0])
    assert {name: facts[name] for name in ("rule", "severity", "scope", "value", "threshold", "runbook_url")} == {
        "rule": watching.name,
        "severity": "critical",
        "scope": "topic orders",
        "value": 3.0,
        "threshold": 3.0,
        "runbook_url": "https://example.org/runbook",
    }


def test_an_e_mail_goes_to_all_addresses(settings: LazySettings) -> None:
    settings.DEFAULT_FROM_EMAIL = "alerts@example.org"
    watching = raised(emails="a@example.org, b@example.org,", for_seconds=0, runbook_url="https://example.org/runbook")
    assert send_due() == 1
    [message] = mail.outbox
    assert message.subject == f"[warning] raised: {watching.name}, topic orders"
    assert (message.from_email, message.to) == ("alerts@example.org", ["a@example.org", "b@example.org"])
    for line in (
        "Raised at 3 open dead letters",
        "About: topic orders",
        "Figure: 3 open",
        "https://example.org/runbook",
    ):
        assert line in message.body
    assert "Resolved" not in message.body


def test_without_a_mail_server_the_attempt_says_so(settings: LazySettings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST = ""
    raised(emails="a@example.org")
    assert send_due() == 0
    note = AlertNotification.objects.get()
    assert note.error == "no e-mail server is configured: set EMAIL_URL"
    assert (note.attempts, note.delivered_at, note.given_up_at) == (1, None, None)


def test_a_mail_server_that_refuses_is_tried_again(settings: LazySettings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        settings.EMAIL_PORT = closed.getsockname()[1]
    raised(emails="a@example.org")
    assert send_due() == 0
    assert "ConnectionRefusedError" in AlertNotification.objects.get().error


def test_a_webhook_is_called_with_what_happened(receiver: Receiver) -> None:
    watching = raised(webhook_url=receiver.url, metric="depth", runbook_url="https://example.org/runbook")
    assert send_due() == 1
    settle("orders")
    evaluate()
    assert send_due() == 1
    first, second = receiver.bodies()
    ids = list(AlertNotification.objects.order_by("id").values_list("id", flat=True))
    assert {name: first[name] for name in first if not name.endswith("_at")} == {
        "id": str(ids[0]),
        "event": "raised",
        "attempt": 1,
        "rule": watching.name,
        "severity": "warning",
        "metric": "depth",
        "threshold": 3.0,
        "for_seconds": 0,
        "scope": "topic orders",
        "value": 3.0,
        "runbook_url": "https://example.org/runbook",
    }
    assert first["raised_at"].endswith("Z")
    assert first["resolved_at"] is None
    assert (second["event"], second["value"], second["resolved_at"] is None) == ("resolved", 0.0, False)
    headers = receiver.calls[0][0]
    assert headers["content-type"] == "application/json"
    assert (headers["x-waystation-event"], headers["x-waystation-notification-id"]) == ("raised", str(ids[0]))
    assert "x-waystation-signature" not in headers
    assert receiver.paths == ["/hook?for=alerts"] * 2


def verified(headers: dict[str, str], body: bytes) -> bool:
    """Runs the example of docs/alerts.md."""
    documentation = (Path(__file__).resolve().parents[3] / "docs" / "alerts.md").read_text(encoding="utf-8")
    example: dict[str, Any] = {}
    exec(documentation.partition("```python\n")[2].partition("```")[0], example)
    return bool(example["is_genuine"](SECRET, headers["x-waystation-signature"], body))


def test_a_webhook_that_fails_first_is_called_again_with_the_same_id_and_signed_each_time(receiver: Receiver) -> None:
    raised(webhook_url=receiver.url, webhook_secret=SECRET)
    receiver.statuses = [500, 404]
    for attempt, error in ((1, "the server answered 500"), (2, "the server answered 404")):
        assert send_due() == 0
        note = AlertNotification.objects.get()
        assert (note.attempts, note.error) == (attempt, error)
        assert send_due() == 0, "not due yet"
        all_due()
    assert send_due() == 1
    note = AlertNotification.objects.get()
    assert (note.attempts, note.error) == (3, "")
    assert note.delivered_at is not None
    assert [body["attempt"] for body in receiver.bodies()] == [1, 2, 3]
    assert {headers["x-waystation-notification-id"] for headers, _ in receiver.calls} == {str(note.id)}
    assert all(verified(headers, body) for headers, body in receiver.calls)
    assert not verified(receiver.calls[0][0], receiver.calls[0][1] + b" ")
    assert all(SECRET.encode() not in body for _, body in receiver.calls)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status: int, receiver: Receiver) -> None:
    raised(webhook_url=receiver.url)
    receiver.statuses = [status]
    assert send_due() == 0
    assert AlertNotification.objects.get().error == f"the server answered {status}; redirects are not followed"
    assert receiver.paths == ["/hook?for=alerts"]


def test_a_webhook_that_does_not_answer_costs_so_many_seconds(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.2)
    raised(webhook_url=silent)
    assert send_due() == 0
    assert AlertNotification.objects.get().error == "no answer within 0.2 s"


def test_a_webhook_that_answers_byte_by_byte_gains_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.5)
    ended = threading.Event()

    def drip(listening: socket.socket) -> None:
        conn, _ = listening.accept()
        with conn:
            while not ended.wait(0.05):
                try:
                    conn.sendall(b"H")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        raised(webhook_url=f"http://127.0.0.1:{listening.getsockname()[1]}/")
        began = time.monotonic()
        send_due()
        assert time.monotonic() - began < 10
        ended.set()
        thread.join()
    assert AlertNotification.objects.get().error == "no answer within 0.5 s"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "is not HTTP/1.1"),
        (b"HTTP/1.1 999 x\r\n", "is not HTTP/1.1"),
        (b"x" * 100_000, "chunk"),
        (b"", "0 bytes read"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.0 200\r\n\r\n", ""),
    ],
    ids=["another protocol", "no status", "no end", "nothing", "an interim answer", "no reason"],
)
def test_what_answers_is_not_trusted(answer: bytes, says: str) -> None:
    def serve(listening: socket.socket) -> None:
        conn, _ = listening.accept()
        with conn:
            conn.recv(65536)
            conn.sendall(answer)
            conn.shutdown(socket.SHUT_WR)
            try:
                while conn.recv(65536):
                    pass
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        raised(webhook_url=f"http://127.0.0.1:{listening.getsockname()[1]}")
        assert send_due() == (not says)
        thread.join()
    assert says in AlertNotification.objects.get().error


@pytest.mark.parametrize(
    "url", ["ftp://localhost/", "http://", "http://a:b@localhost/", "http://[::1/", "http://localhost:99999/", "x"]
)
def test_an_address_that_makes_no_sense_is_an_attempt_that_failed(url: str) -> None:
    raised(webhook_url=url)
    assert send_due() == 0
    assert "the address" in AlertNotification.objects.get().error


def test_a_signature_is_that_of_the_documentation() -> None:
    assert webhook.signature("whsec", b'{"id":"1"}', 1_700_000_000) == (
        "t=1700000000,v1=" + hmac.new(b"whsec", b'1700000000.{"id":"1"}', hashlib.sha256).hexdigest()
    )


# -- the outbox ---------------------------------------------------------------------------------------------------


def test_attempts_are_spread_over_an_hour_and_then_given_up(receiver: Receiver) -> None:
    raised(webhook_url=receiver.url)
    receiver.statuses = [500] * 20
    delays = []
    for _ in range(notifications.MAX_ATTEMPTS):
        assert send_due() == 0
        note = AlertNotification.objects.get()
        if note.given_up_at is None:
            delays.append(round((note.due_at - timezone.now()).total_seconds() / 10) * 10)
            all_due()
    assert delays == [30, 60, 120, 240, 480, 960, 1920]
    assert 3600 <= sum(delays) <= 4000
    note = AlertNotification.objects.get()
    assert (note.attempts, note.error) == (8, "the server answered 500")
    assert note.given_up_at is not None
    all_due()
    assert send_due() == 0
    assert len(receiver.calls) == 8


def test_one_that_fails_keeps_no_other_back(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    raised(emails="a@example.org", webhook_url=receiver.url, to_log=True)

    def broken(*args: object, **options: object) -> int:
        raise RuntimeError("a back end with a fault\0of its own")

    monkeypatch.setattr(notifications, "send_mail", broken)
    assert send_due() == 2
    note = AlertNotification.objects.get(delivered_at__isnull=True)
    assert (note.channel, note.error) == ("email", "RuntimeError: a back end with a fault of its own")


def test_a_channel_that_nobody_knows_is_a_failure_like_others() -> None:
    raised(to_log=True)
    AlertNotification.objects.update(channel="pigeon")
    assert send_due() == 0
    assert "pigeon" in AlertNotification.objects.get().error


def test_resolved_is_not_told_before_raised(receiver: Receiver) -> None:
    raised(webhook_url=receiver.url)
    receiver.statuses = [500]
    assert send_due() == 0
    settle("orders")
    evaluate()
    assert send_due() == 0
    assert [body["event"] for body in receiver.bodies()] == ["raised"]
    all_due()
    assert send_due() == 2
    assert [body["event"] for body in receiver.bodies()] == ["raised", "raised", "resolved"]


def test_resolved_is_told_when_raised_was_given_up(receiver: Receiver) -> None:
    raised(webhook_url=receiver.url)
    AlertNotification.objects.update(given_up_at=timezone.now())
    settle("orders")
    evaluate()
    assert send_due() == 1
    assert [body["event"] for body in receiver.bodies()] == ["resolved"]


def test_senders_side_by_side_send_each_once(receiver: Receiver) -> None:
    for number in range(20):
        rule(to_log=False, webhook_url=f"{receiver.url}&n={number}")
    fail("orders")
    assert evaluate() == 20
    together = threading.Barrier(3)
    arrived: list[int] = []

    def sender() -> None:
        together.wait(30)
        arrived.append(send_due())
        connections.close_all()

    threads = [threading.Thread(target=sender) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(arrived) == 20
    assert len(receiver.calls) == len(set(receiver.paths)) == 20


def test_no_transaction_is_open_while_something_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever would hold one would keep vacuum from working for as long as a server takes to answer."""
    raised(emails="a@example.org")
    seen: list[tuple[bool, int]] = []
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        [pid] = cursor.fetchone()

    def look(*args: object, **options: object) -> int:
        with connection.cursor() as cursor:  # a connection of this thread's own
            cursor.execute("select count(*) from pg_stat_activity where pid = %s and xact_start is not null", [pid])
            seen.append((connection.in_atomic_block, cursor.fetchone()[0]))
        connection.close()
        return 1

    monkeypatch.setattr(notifications, "send_mail", look)
    assert send_due() == 1
    assert seen == [(False, 0)]


def lose_worker(monkeypatch: pytest.MonkeyPatch, last: Callable[[], object]) -> None:
    """Sends, and dies before it can say what came of it."""

    def die(*args: object) -> None:
        last()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(notifications, "_settle", die)
        with pytest.raises(KeyboardInterrupt):
            send_due()


def test_what_a_killed_worker_had_taken_is_sent_again_when_its_lease_is_over(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised(webhook_url=receiver.url)
    lose_worker(monkeypatch, lambda: None)
    assert send_due() == 0, "the lease holds"
    due_at = AlertNotification.objects.get().due_at
    assert timedelta(seconds=150) < due_at - timezone.now() <= timedelta(seconds=notifications.LEASE_SECONDS)
    AlertNotification.objects.update(due_at=F("due_at") - timedelta(seconds=notifications.LEASE_SECONDS))
    assert send_due() == 1
    ids = {headers["x-waystation-notification-id"] for headers, _ in receiver.calls}
    assert (len(receiver.calls), len(ids)) == (2, 1)


def test_a_worker_lost_in_the_last_attempt_ends_it(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    raised(webhook_url=receiver.url)
    AlertNotification.objects.update(attempts=7)
    lose_worker(monkeypatch, all_due)
    assert send_due() == 0
    note = AlertNotification.objects.get()
    assert note.given_up_at is not None
    assert "the worker was lost" in note.error
    assert len(receiver.calls) == 1


def test_who_answers_after_its_lease_changes_nothing(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    raised(webhook_url=receiver.url)
    receiver.statuses = [500]
    late: list[tuple[Any, Any]] = []
    with monkeypatch.context() as patch:
        patch.setattr(notifications, "_settle", lambda *settled: late.append(settled))
        send_due()
    all_due()
    assert send_due() == 1
    for settled in late:
        notifications._settle(*settled)
    note = AlertNotification.objects.get()
    assert (note.error, note.attempts) == ("", 2)
    assert note.delivered_at is not None


# -- tests of channels --------------------------------------------------------------------------------------------


def test_a_test_goes_to_each_channel_once_and_is_audited(receiver: Receiver) -> None:
    watching = rule(emails="a@example.org", webhook_url=receiver.url, webhook_secret=SECRET)
    assert send_test(watching.pk, OPERATOR) == ["log", "email", "webhook"]
    assert send_due() == 3
    [told] = receiver.bodies()
    assert (told["event"], told["scope"], told["value"]) == ("test", None, None)
    [message] = mail.outbox
    assert message.subject == f"[warning] test: {watching.name}"
    assert "nothing is wrong" in message.body
    entry = AuditEntry.objects.get()
    assert (entry.principal, entry.operation, entry.resource_type, entry.resource) == (
        "ada",
        "test",
        "alert_rule",
        watching.name,
    )
    assert entry.details == {"channels": ["log", "email", "webhook"]}


def test_a_test_that_fails_is_not_repeated(receiver: Receiver) -> None:
    watching = rule(to_log=False, webhook_url=receiver.url)
    send_test(watching.pk, OPERATOR)
    receiver.statuses = [503]
    assert send_due() == 0
    note = AlertNotification.objects.get()
    assert (note.error, note.given_up_at is None) == ("the server answered 503", False)


def test_a_test_needs_a_rule_with_a_channel() -> None:
    with pytest.raises(AlertRuleNotFound):
        send_test(1, OPERATOR)
    with pytest.raises(InvalidValue, match="notifies nobody"):
        send_test(rule(to_log=False).pk, OPERATOR)
    assert not AuditEntry.objects.exists()
