"""Dead letters of queues in the console: the letter, its edit, and replays back to the queue or to another target."""

from __future__ import annotations

import html
import json
import re

import pytest
from django.test import Client

from brokers import topics
from brokers.models import DeadLetterRevision, ProcessedMessage, QueueConsumer, Replay
from brokers.processed import consumer_of_queue
from brokers.queues.declaring import pause_queue
from brokers.queues.exchanges import declare_exchange
from brokers.replays import runner
from tests.integration.brokers.dying import Mortuary
from tests.integration.brokers.given_up import query
from tests.integration.brokers.replaying import outcomes
from tests.integration.console.failing import HOSTILE, MOST_STATEMENTS, counted_statements, signed_in, text

NEW = "/admin/replays/new/"
FORM = {"to": "consumer", "reason": "", "count": "10", "min_success": "90", "action": "apply"}


@pytest.fixture
def crew(transactional_db: None) -> Mortuary:
    """The queue `crew`, whose messages die."""
    return Mortuary("crew", max_priority=5)


def letter_page(number: int, tab: str = "") -> str:
    return f"/admin/dead-letters/{number}/{f'?tab={tab}' if tab else ''}"


def replayed(client: Client, **form: str) -> int:
    """Plans and applies a replay through the form; its id."""
    response = client.post(NEW, FORM | form)
    assert response.status_code == 302, html.unescape(response.content.decode())
    number = int(re.findall(r"/admin/replays/(\d+)/", response["Location"])[0])
    query("update brokers_replay set starts_at = now() - interval '1 minute' where id = %s", number)
    runner.advance()
    return number


def test_a_message_is_shown_with_how_it_was_routed_and_how_it_died(admin: Client, crew: Mortuary) -> None:
    letter = crew.letter(
        {"flight": 1545}, message_id="m-1", correlation_id="c-1", type="delay", reply_to="answers", priority=3
    )
    with counted_statements() as sent:
        page = text(admin, letter_page(letter))
    assert len(sent) <= MOST_STATEMENTS
    for shown in (
        '<a href="/admin/queues/crew/">queue crew</a>',
        '(default), <span class="mono">crew</span>',
        '<dt>Message id</dt><dd class="mono">m-1</dd>',
        '<dt>Correlation id</dt><dd class="mono">c-1</dd>',
        '<dt>Type</dt><dd class="mono">delay</dd>',
        '<dt>Reply to</dt><dd class="mono">answers</dd>',
        "<dt>Priority</dt><dd>3</dd>",
        'id="deaths-heading">Deaths',
        '<td data-label="Reason">rejected</td>',
        '<td class="num" data-label="Times">1</td>',
    ):
        assert shown in page
    assert "<dt>Key</dt>" not in page
    assert "no seat" in page
    for address in ("/admin/dead-letters/list/?source=crew", "/admin/dead-letters/", "/admin/"):
        assert "crew" in text(admin, address)


def test_headers_of_any_value_are_shown_as_json(admin: Client, crew: Mortuary) -> None:
    letter = crew.letter(headers={"tries": 3, "tags": ["a", None], HOSTILE: HOSTILE, "plain": "5"})
    page = text(admin, letter_page(letter, "headers"))
    assert "<script>document" not in page
    page = html.unescape(page)
    assert '<td class="mono wrap wide">3</td>' in page
    assert '["a",null]' in page
    assert '<th scope="row" class="mono wrap">x-death</th>' in page
    assert '"queue":"crew"' in page


def test_what_may_not_be_viewed_shows_no_deaths(crew: Mortuary) -> None:
    letter = crew.letter(headers={"secret": "hidden"})
    client = signed_in("describe:queue/crew")
    assert "Deaths" not in text(client, letter_page(letter))
    assert "view_payload on queue crew" in text(client, letter_page(letter, "headers"))
    assert client.get(letter_page(Mortuary().letter())).status_code == 404


def test_an_edit_takes_any_header_and_keeps_the_deaths(admin: Client, crew: Mortuary) -> None:
    letter = crew.letter({"n": 1}, headers={"tries": 3, "text": "5", "tags": ["a"]})
    page = html.unescape(text(admin, f"/admin/dead-letters/{letter}/edit/"))
    assert 'tags: ["a"]\ntext: "5"\ntries: 3</textarea>' in page
    assert 'name="key"' not in page
    assert "Tombstone" not in page
    form = {"revision": "1", "kind": "json", "value": '{"n":2}', "headers": 'tries: 4\ntext: "5"', "action": "save"}
    response = admin.post(f"/admin/dead-letters/{letter}/edit/", form)
    assert response.status_code == 302, response.content.decode()
    stored = DeadLetterRevision.objects.get(dead_letter_id=letter, number=2)
    assert json.loads(bytes(stored.headers)) == {"tries": 4, "text": "5"}
    assert "x-death" in text(admin, letter_page(letter, "headers"))


def test_a_replay_gives_it_back_to_its_queue(admin: Client, crew: Mortuary) -> None:
    letter = crew.letter()
    page = html.unescape(text(admin, f"{NEW}?ids={letter}"))
    assert "Replays 1 dead letter to <strong>queue crew</strong>. Other queues are not affected." in page
    assert "Queue crew has no consumer now" in page
    pause_queue("crew")
    assert "Queue crew is paused" in text(admin, f"{NEW}?ids={letter}")
    replay = replayed(admin, ids=str(letter))
    assert outcomes(replay) == {letter: ("waiting", "")}
    assert "only to <strong>queue crew</strong>" in text(admin, f"/admin/replays/{replay}/")


def test_a_queue_that_has_a_consumer_is_ready(admin: Client, crew: Mortuary) -> None:
    letter = crew.letter()
    QueueConsumer.objects.create(
        queue_id=crew.info.id, name="listen-1", kind="listener", lapses_at="2100-01-01T00:00:00Z"
    )
    assert "has no consumer" not in text(admin, f"{NEW}?ids={letter}")


@pytest.mark.parametrize(
    ("form", "target", "words"),
    [
        ({"to": "queue", "queue": "spare"}, {"queue": "spare"}, "queue spare"),
        (
            {"to": "exchange", "exchange": "", "routing_key": "spare"},
            {"exchange": "", "routing_key": "spare"},
            "the default exchange with routing key spare",
        ),
        (
            {"to": "exchange", "exchange": "fan", "routing_key": "k"},
            {"exchange": "fan", "routing_key": "k"},
            "exchange fan with routing key k",
        ),
        ({"to": "topic", "topic": "flights"}, {"topic": "flights"}, "topic flights"),
    ],
)
def test_a_replay_can_lead_elsewhere(
    admin: Client, crew: Mortuary, form: dict[str, str], target: dict[str, str], words: str
) -> None:
    Mortuary("spare")
    declare_exchange("fan", type="fanout")
    topics.create("flights", partitions=1)
    letter = crew.letter()
    checked = admin.post(NEW, FORM | form | {"ids": str(letter), "action": "check"}).content.decode()
    assert f"published anew to <strong>{words}</strong>" in checked
    replay = replayed(admin, ids=str(letter), **form)
    assert Replay.objects.get(pk=replay).target == target
    skipped = ("skipped", "unroutable")
    assert outcomes(replay) == {letter: skipped if form.get("exchange") else ("succeeded", "")}
    page = html.unescape(text(admin, f"/admin/replays/{replay}/"))
    assert f"published anew to <strong>{words}</strong>" in page
    if form.get("exchange"):
        assert "no queue is reached from the target" in page


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"to": "queue"}, "Name the queue."),
        ({"to": "queue", "queue": "none"}, "There is no queue 'none'."),
        ({"to": "exchange", "exchange": "none"}, "There is no exchange 'none'."),
    ],
)
def test_a_target_that_is_not_there_is_explained(
    admin: Client, crew: Mortuary, form: dict[str, str], said: str
) -> None:
    response = admin.post(NEW, FORM | form | {"ids": str(crew.letter())})
    assert response.status_code == 422
    assert said in html.unescape(response.content.decode()).replace("&#x27;", "'")
    assert not Replay.objects.exists()


def test_writing_to_the_target_needs_permission(crew: Mortuary) -> None:
    Mortuary("spare")
    letter = crew.letter()
    mine = ["describe:queue/crew", "replay:queue/crew", "view_payload:queue/crew"]
    form = FORM | {"ids": str(letter), "to": "queue", "queue": "spare"}
    assert signed_in(*mine).post(NEW, form).status_code == 403
    by_key = form | {"to": "exchange", "exchange": "", "routing_key": "spare"}
    assert signed_in(*mine).post(NEW, by_key).status_code == 403
    for allowed in (form, by_key):
        assert signed_in(*mine, "write:queue/spare").post(NEW, allowed).status_code == 302


def test_its_idempotency_key_is_looked_up_for_the_queue(admin: Client, crew: Mortuary) -> None:
    letter = crew.bare(idempotency_key="k-1")
    ProcessedMessage.objects.create(consumer=consumer_of_queue("crew"), message_key="k-1")
    page = text(admin, letter_page(letter, "idempotency"))
    assert "<dd>queue:crew</dd>" in page
    assert "Another delivery of the same key was handled" in page
