"""Dead letters of durable background functions in the console: shown, edited, and called anew by a replay."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime

import pytest
from django.db import transaction
from django.test import Client

from brokers import dead_letters, task_calls
from brokers.dead_letter_origins import Origin, Payload, Try
from brokers.models import DeadLetterRevision
from brokers.record import JSON
from brokers.replays import runner
from scheduling.models import Run
from tests.integration.brokers.given_up import failure, query
from tests.integration.brokers.replaying import outcomes
from tests.integration.console.failing import MOST_STATEMENTS, counted_statements, signed_in, text

NAME = "reports.export"


@pytest.fixture
def letter(transactional_db: None) -> int:
    """One of a call with `2024-05` and a user."""
    at = datetime(2024, 5, 1, tzinfo=UTC)
    failed = failure()
    tried = Try(1, at, at, failed.message, failed.exception_class, failed.stacktrace, (), None, "host:1")
    origin = Origin(source_kind="task", source=NAME, handler="reports.work.export", tries=(tried,))
    payload = Payload(None, task_calls.value_of(["2024-05"], {"user": 7}), JSON, {})
    with transaction.atomic():
        return dead_letters.add(origin, payload, "attempts_exhausted", failed)


def test_it_is_shown_as_a_tasks(admin: Client, letter: int) -> None:
    with counted_statements() as sent:
        page = html.unescape(text(admin, f"/admin/dead-letters/{letter}/"))
    assert len(sent) <= MOST_STATEMENTS
    assert f"task {NAME}" in page
    assert "2024-05" in page
    assert "no plane" in text(admin, f"/admin/dead-letters/{letter}/?tab=error")
    assert "host:1" in text(admin, f"/admin/dead-letters/{letter}/?tab=attempts")
    for address in (f"/admin/dead-letters/list/?source={NAME}", "/admin/dead-letters/", "/admin/"):
        assert NAME in text(admin, address)


def test_it_is_its_tasks_who_may_see_it(letter: int) -> None:
    client = signed_in(f"describe:schedule/{NAME}")
    assert f"view_payload on schedule {NAME}" in text(client, f"/admin/dead-letters/{letter}/")
    assert signed_in("describe:schedule/other").get(f"/admin/dead-letters/{letter}/").status_code == 404


def test_an_edit_has_to_remain_a_call(admin: Client, letter: int) -> None:
    address = f"/admin/dead-letters/{letter}/edit/"
    assert f"delivered to task <strong>{NAME}" in text(admin, address)
    form = {"revision": "1", "kind": "json", "value": '{"args": 1}', "headers": "", "action": "save"}
    refused = admin.post(address, form)
    assert refused.status_code == 422
    assert '"args"' in html.unescape(refused.content.decode())
    assert admin.post(address, form | {"value": '{"args": ["2024-06"], "kwargs": {}}'}).status_code == 302
    stored = DeadLetterRevision.objects.get(dead_letter_id=letter, number=2)
    assert json.loads(bytes(stored.value or b"")) == {"args": ["2024-06"], "kwargs": {}}


def test_a_replay_calls_it_anew(admin: Client, letter: int) -> None:
    page = html.unescape(text(admin, f"/admin/replays/new/?ids={letter}"))
    assert f"Replays 1 dead letter to <strong>task {NAME}</strong>. It is called anew, in a worker." in page
    form = {"to": "consumer", "reason": "", "count": "10", "min_success": "90", "action": "apply", "ids": str(letter)}
    response = admin.post("/admin/replays/new/", form)
    assert response.status_code == 302
    number = int(re.findall(r"/admin/replays/(\d+)/", response["Location"])[0])
    query("update brokers_replay set starts_at = now() - interval '1 minute' where id = %s", number)
    runner.advance()
    assert outcomes(number) == {letter: ("waiting", "")}
    run = Run.objects.get()
    assert (run.function, run.arguments, run.state, run.dead_letter_id) == (
        NAME,
        [["2024-05"], {"user": 7}],
        "ready",
        letter,
    )
    assert f"task {NAME}" in text(admin, f"/admin/replays/{number}/")
