"""The Queues screens: the list, one queue and its tabs, and each change with its audit entry."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from brokers.models import AuditEntry, Queue, QueueConsumer, QueueMinute
from brokers.models import Message as MessageRow
from brokers.queues import claims, declaring, lengths, sending, topology
from brokers.queues.claims import Claim
from tests.integration.console.failing import HOSTILE, MOST_STATEMENTS, counted_statements, text
from tests.integration.console.queueing import Airport, airport

NEW = {"name": "crew", "dead_letter_to": "", "overflow": "", "dead_letters": "unrouted"}
REBOOKING = "/admin/queues/rebooking/"


@pytest.fixture
def jfk(transactional_db: None) -> Airport:
    return airport()


def cell(page: str, label: str, nth: int = 0) -> str:
    """What the nth cell of that label holds, without markup."""
    cells = re.findall(rf'<td[^>]*data-label="{label}"[^>]*>(.*?)</td>', page, re.DOTALL)
    return re.sub(r"<[^>]+>", "", cells[nth]).strip()


def tile(page: str, heading: str) -> str:
    found = re.search(rf"<dt>{heading}</dt><dd[^>]*>(.*?)</dd>", page, re.DOTALL)
    assert found is not None
    return re.sub(r"<[^>]+>", "", found[1]).strip()


def error_at(page: str, field: str) -> str:
    return page.partition(f'id="id_{field}_error">')[2].partition("</p>")[0]


def last_entry() -> AuditEntry:
    return AuditEntry.objects.latest("id")


# -- the list -------------------------------------------------------------------------------------------------------


def test_an_empty_list_offers_the_first_step(admin: Client) -> None:
    page = text(admin, "/admin/queues/")
    assert "There is no queue yet" in page
    assert "/admin/new-queue/" in page


def test_the_list_shows_what_each_queue_holds(admin: Client, jfk: Airport) -> None:
    jfk.send(1, 2, 3)
    jfk.send(4, delay_ms=60_000)
    jfk.claim()
    page = text(admin, "/admin/queues/?q=rebooking")
    assert (cell(page, "Ready"), cell(page, "Unacked"), cell(page, "Consumers")) == ("2", "1", "0")
    assert cell(page, "Oldest").endswith(("ago", "now"))
    assert cell(page, "Dead letters") == "0"
    assert "Active" in cell(page, "State")


def test_the_list_is_filtered(admin: Client, jfk: Airport) -> None:
    jfk.send(1)
    declaring.pause_queue("lost")
    queue = Queue.objects.get(name="rebooking")
    QueueConsumer.objects.create(
        queue=queue, name="w-1", kind="listener", lapses_at=timezone.now() + timedelta(minutes=1)
    )
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
    QueueMinute.objects.create(queue_id=queue.id, minute=minute, arrived=120, gone=60)
    for only, expected in (
        ("", {"all-flights", "lost", "rebooking"}),
        ("waiting", {"all-flights", "rebooking"}),
        ("unconsumed", {"all-flights", "lost"}),
        ("growing", {"rebooking"}),
        ("paused", {"lost"}),
        ("nonsense", {"all-flights", "lost", "rebooking"}),
    ):
        page = text(admin, f"/admin/queues/?only={only}")
        assert (only, set(re.findall(r'class="row-link" href="/admin/queues/([^/]+)/"', page))) == (only, expected)


def test_a_filter_that_fits_none_says_that_others_exist(admin: Client, jfk: Airport) -> None:
    page = text(admin, "/admin/queues/?only=paused")
    assert "No queue matches" in page
    assert "Clear filter" in page


def test_any_filter_is_taken_literally(admin: Client, jfk: Airport) -> None:
    for query in ("q=%25", "q=%00", "after=%00", "q=<script>", "only=%00", "after=" + "x" * 300):
        assert "<script>" not in re.sub(r"<script src=[^>]*>", "", text(admin, f"/admin/queues/?{query}"))


def test_rates_are_of_the_last_whole_minute(admin: Client, jfk: Airport) -> None:
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
    QueueMinute.objects.create(queue_id=Queue.objects.get(name="lost").id, minute=minute, arrived=120, gone=60)
    page = text(admin, "/admin/queues/?q=lost")
    assert (cell(page, "In"), cell(page, "Out")) in {("2.0 /s", "1.0 /s"), ("0 /s", "0 /s")}  # a minute may have passed
    assert cell(page, "State").endswith("+60")


# -- declaring ------------------------------------------------------------------------------------------------------


def test_a_queue_is_declared_with_what_was_typed(admin: Client, jfk: Airport) -> None:
    form = NEW | {
        "max_priority": "5",
        "message_ttl_ms": "30 min",
        "max_length": "1000",
        "overflow": "reject-publish",
        "dead_letter_to": "exchange",
        "dead_letter_exchange": "strays",
        "delivery_limit": "-1",
        "single_active_consumer": "on",
        "dead_letters": "none",
    }
    response = admin.post("/admin/new-queue/", form)
    assert (response.status_code, response["Location"]) == (302, "/admin/queues/crew/")
    queue = Queue.objects.get(name="crew")
    assert (queue.max_priority, queue.message_ttl_ms, queue.max_length, queue.overflow) == (
        *(5, 1_800_000, 1000),
        "reject-publish",
    )
    assert (queue.dead_letter_exchange, queue.delivery_limit, queue.single_active_consumer, queue.dead_letters) == (
        *("strays", -1, True),
        "none",
    )
    assert (last_entry().principal, last_entry().surface, last_entry().operation) == ("admin", "console", "create")


def test_the_default_exchange_can_be_the_dead_letter_exchange(admin: Client, transactional_db: None) -> None:
    admin.post("/admin/new-queue/", NEW | {"dead_letter_to": "default", "dead_letter_routing_key": "lost"})
    queue = Queue.objects.get()
    assert (queue.dead_letter_exchange, queue.dead_letter_routing_key) == ("", "lost")


def test_a_faulty_field_is_explained_and_nothing_declared(admin: Client, jfk: Airport) -> None:
    for field, value, says in (
        ("name", "a b", "a b"),
        ("name", "", "required"),
        ("max_priority", "256", "255"),
        ("message_ttl_ms", "soon", "number and a unit"),
        ("delivery_limit", "-2", "-1"),
        ("dead_letter_routing_key", "x", "needs an exchange"),
        ("overflow", "burn", "valid choice"),
    ):
        response = admin.post("/admin/new-queue/", NEW | {field: value})
        assert (field, response.status_code) == (field, 422)
        assert says in error_at(response.content.decode(), field)
    assert not Queue.objects.filter(name="crew").exists()


def test_a_queue_that_is_there_is_not_declared_otherwise(admin: Client, jfk: Airport) -> None:
    response = admin.post("/admin/new-queue/", NEW | {"name": "rebooking"})
    assert response.status_code == 422
    assert error_at(response.content.decode(), "max_priority")
    same = {"name": "lost"}
    assert "was there already" in admin.post("/admin/new-queue/", NEW | same, follow=True).content.decode()


# -- messages -------------------------------------------------------------------------------------------------------


def test_a_look_shows_messages_in_their_order_and_changes_nothing(admin: Client, jfk: Airport) -> None:
    [low] = jfk.send({"seat": "12A"}, headers={"try": 1})
    [high] = jfk.send({"seat": "1F"}, priority=5)
    [later] = jfk.send({"seat": "9C"}, delay_ms=60_000)
    [held] = jfk.send({"seat": "3D"}, priority=5)
    jfk.claim(2)
    before = list(MessageRow.objects.order_by("id").values())
    page = text(admin, REBOOKING)
    numbers = re.findall(r'id="message-\d+"[^>]*>([\d,]+)</a>', page)
    assert [int(number.replace(",", "")) for number in numbers] == [low, later, *sorted([high, held])]
    assert "&quot;seat&quot;:&quot;12A&quot;" in page.replace(" ", "")
    assert list(MessageRow.objects.order_by("id").values()) == before


def test_pages_lead_through_all_messages(admin: Client, jfk: Airport) -> None:
    sent = jfk.send(*range(70))
    jfk.send(*range(70, 100), priority=2)
    jfk.send(*range(100, 120), delay_ms=60_000)
    jfk.claim(10)
    seen: list[int] = []
    path = REBOOKING
    for _ in range(3):
        page = text(admin, path)
        seen += [int(number.replace(",", "")) for number in re.findall(r'id="message-\d+"[^>]*>([\d,]+)</a>', page)]
        following = re.search(r'href="\?([^"]*)" rel="next"', page)
        path = f"{REBOOKING}?{following[1]}" if following else ""
    assert len(seen) == len(set(seen)) == 120
    assert path == ""
    assert seen[20:90] == sent


def test_one_message_is_shown_whole(admin: Client, jfk: Airport) -> None:
    jfk.send({"n": 12345678901234567890}, headers={"try": 1, "on": True}, message_id="m-1", type="flight")
    row = MessageRow.objects.get(queue_id=topology.queue("rebooking").id).pk
    for path in (f"{REBOOKING}?open={row}", f"{REBOOKING}messages/{row}/"):
        page = text(admin, path)
        assert "12345678901234567890" in page
        assert "m-1" in page
        assert "<dt>try</dt><dd>1</dd>" in page
    response = admin.get(f"{REBOOKING}messages/{row}/body")
    assert response.content == b'{"n":12345678901234567890}'
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"].startswith("attachment")


def test_a_message_that_is_gone_is_not_found(admin: Client, jfk: Airport) -> None:
    page = text(admin, f"{REBOOKING}messages/999/", 404)
    assert "not in queue rebooking any more" in page
    assert "<aside" not in text(admin, f"{REBOOKING}?open=999")


def test_a_faulty_place_does_no_harm(admin: Client, jfk: Airport) -> None:
    jfk.send(1)
    for query in ("after=9.9.9", "after=0.1", "after=1.99999999999999999.1", "after=0.999.1", "open=x", "after=%00"):
        text(admin, f"{REBOOKING}?{query}")


def test_hostile_messages_stay_inert(admin: Client, jfk: Airport) -> None:
    claimed = jfk.send(
        {HOSTILE: HOSTILE}, headers={HOSTILE: HOSTILE}, message_id=HOSTILE, type=HOSTILE, key="flight.<b>.UA"
    )
    sending.send("", "rebooking", HOSTILE.encode())
    jfk.claim(2, holder=HOSTILE)
    row = jfk.row(claimed[0])
    paths = ["", f"?open={row}", f"messages/{row}/", f"messages/{row}/?view=raw", "unacknowledged/"]
    for path in paths:
        page = text(admin, f"{REBOOKING}{path}")
        assert "<script>document" not in page
        assert "<img" not in page
        assert "<b>" not in page
        assert "\u202e" not in page
        assert "\x1b" not in page


# -- under a claim --------------------------------------------------------------------------------------------------


def test_unacknowledged_messages_show_holder_and_deadline(admin: Client, jfk: Airport) -> None:
    jfk.send(1, 2)
    jfk.claim(1, holder="desk-7")
    page = text(admin, f"{REBOOKING}unacknowledged/")
    assert (cell(page, "Holder"), cell(page, "Delivery")) == ("desk-7", "1")
    assert cell(page, "Lease").endswith("left")
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", cell(page, "Deadline"))


def test_no_page_shows_a_claims_token(admin: Client, jfk: Airport) -> None:
    jfk.send(1)
    [message] = jfk.claim()
    assert message.token is not None
    for path in ("", f"?open={message.row}", f"messages/{message.row}/", "unacknowledged/"):
        page = text(admin, f"{REBOOKING}{path}")
        assert message.token.hex not in page
        assert str(message.token) not in page


def test_a_message_is_taken_from_its_holder_by_force(admin: Client, jfk: Airport) -> None:
    [number] = jfk.send(1)
    [message] = jfk.claim(holder="desk-7")
    assert message.token is not None
    response = admin.post(f"{REBOOKING}release/", {"message": message.row})
    assert response.status_code == 302
    assert claims.ack(topology.queue("rebooking"), [Claim(message.row, message.token)]) == set()
    [again] = jfk.claim()
    assert (again.id, again.deliveries, again.returns) == (number, 2, 1)
    entry = last_entry()
    assert (entry.operation, entry.resource, entry.details) == (
        *("requeue", "rebooking"),
        {"message": number, "holder": "desk-7"},
    )


def test_releasing_what_is_not_held_changes_nothing(admin: Client, jfk: Airport) -> None:
    [ready] = jfk.send(1)
    before = AuditEntry.objects.count()
    for value in ("", "x", "0", "999999999999", str(jfk.row(ready))):
        response = admin.post(f"{REBOOKING}release/", {"message": value}, follow=True)
        assert "Nothing was changed" in response.content.decode()
    assert AuditEntry.objects.count() == before


# -- consumers, bindings, policy, settings --------------------------------------------------------------------------


def test_consumers_are_listed_with_their_states(admin: Client, transactional_db: None) -> None:
    declaring.declare_queue("crew", single_active_consumer=True)
    queue = Queue.objects.get(name="crew")
    for name, minutes in (("gone", -1), ("first", 1), ("second", 1)):
        until = timezone.now() + timedelta(minutes=minutes)
        QueueConsumer.objects.create(queue=queue, name=name, kind="listener", prefetch=10, lapses_at=until)
    page = text(admin, "/admin/queues/crew/consumers/")
    assert [cell(page, "State", nth) for nth in range(3)] == ["Not heard of", "Active", "Stands by"]


def test_bindings_are_listed_with_the_default_exchange_first(admin: Client, jfk: Airport) -> None:
    page = text(admin, f"{REBOOKING}bindings/")
    assert page.index("default exchange") < page.index('href="/admin/exchanges/flights/"')
    assert cell(page, "Routing key", 1) == "flight.*.UA"


def test_the_course_of_a_message_ends_at_its_dead_letter_exchange(admin: Client, jfk: Airport) -> None:
    declaring.declare_queue("crew", delivery_limit=2, dead_letter_exchange="", dead_letter_routing_key="lost")
    page = text(admin, "/admin/queues/crew/policy/")
    steps = [
        re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", step)).strip()
        for step in re.findall(r"<li class=\"(?:attempt|gap|end|outlet|pause)[^>]*>(.*?)</li>", page, re.DOTALL)
    ]
    assert steps == ["delivery 1", "…", "delivery 3", "given up reason delivery_limit", "default exchange", "lost"]


def test_a_dead_letter_exchange_that_is_not_there_is_said(admin: Client, transactional_db: None) -> None:
    declaring.declare_queue("crew", dead_letter_exchange="nowhere")
    assert "There is no such exchange" in text(admin, "/admin/queues/crew/policy/")


def test_settings_show_what_was_declared_what_the_policy_says_and_what_holds(admin: Client, jfk: Airport) -> None:
    declaring.declare_queue("crew", message_ttl_ms=60_000, max_length=10)
    declaring.put_policy("short", pattern="^cr", message_ttl_ms=1000, max_length=20)
    page = text(admin, "/admin/queues/crew/settings/")
    assert [cell(page, label, 0) for label in ("Declared", "Policy", "Holds")] == ["1 min", "1 s", "1 s"]
    assert [cell(page, label, 2) for label in ("Declared", "Policy", "Holds")] == [
        "10 ready messages",
        "20 ready messages",
        "10 ready messages",
    ]


# -- changes --------------------------------------------------------------------------------------------------------


def test_a_queue_is_paused_and_resumed(admin: Client, jfk: Airport) -> None:
    jfk.send(1)
    response = admin.post(f"{REBOOKING}pause/", {"next": f"{REBOOKING}settings/"}, follow=True)
    assert response.redirect_chain == [(f"{REBOOKING}settings/", 302)]
    assert "Paused" in response.content.decode()
    assert jfk.claim() == []
    admin.post(f"{REBOOKING}resume/", {"next": "https://evil.example/"})
    assert len(jfk.claim()) == 1
    assert [entry.operation for entry in AuditEntry.objects.order_by("-id")[:2]] == ["resume", "pause"]


def test_a_message_is_published_with_all_that_was_typed(admin: Client, jfk: Airport) -> None:
    form = {
        "kind": "json",
        "body": '{"n": 1.50}',
        "headers": 'try: 1\nname: "5"\nnote: hello',
        "priority": "4",
        "expiration_ms": "10 min",
        "delay_ms": "",
        "message_id": "m-1",
        "reply_to": "lost",
    }
    response = admin.post(f"{REBOOKING}publish/", form)
    assert response.status_code == 302
    [message] = jfk.claim()
    assert (message.body_bytes, message.priority, message.message_id, message.reply_to) == (
        *(b'{"n": 1.50}', 4),
        *("m-1", "lost"),
    )
    assert message.headers == {"try": 1, "name": "5", "note": "hello"}
    assert message.expires_at is not None


def test_a_faulty_message_is_explained_and_not_published(admin: Client, jfk: Airport) -> None:
    for field, value, says in (
        ("body", "{", "JSON"),
        ("headers", "no colon", "Line 1"),
        ("headers", 'a: "x', "Line 1"),
        ("headers", "CC: text", "list"),
        ("priority", "300", "255"),
        ("expiration_ms", "soon", "unit"),
        ("kind", "yaml", "valid choice"),
    ):
        response = admin.post(f"{REBOOKING}publish/", {"kind": "json", "body": "1", field: value})
        assert (field, response.status_code) == (field, 422)
        assert says in error_at(response.content.decode(), field)
    assert not MessageRow.objects.exists()


def test_a_full_queue_says_so(admin: Client, transactional_db: None) -> None:
    declaring.declare_queue("crew", max_length=0, overflow="reject-publish")
    response = admin.post("/admin/queues/crew/publish/", {"kind": "json", "body": "1"})
    assert response.status_code == 422
    assert "crew" in response.content.decode().partition('role="alert"')[2].partition("</div>")[0]


def test_checking_publishes_nothing(admin: Client, jfk: Airport) -> None:
    response = admin.post(f"{REBOOKING}publish/", {"kind": "json", "body": '{"a":1}', "action": "format"})
    assert "Nothing was published yet" in response.content.decode()
    assert not MessageRow.objects.exists()


def test_messages_are_moved_as_planned(admin: Client, jfk: Airport) -> None:
    jfk.send(1, 2, 3)
    path = f"{REBOOKING}move/?target=lost&limit=2"
    page = text(admin, path)
    assert "Will move 2 messages" in page
    assert "nothing is moved yet" in page
    refused = admin.post(path, {"reason": ""})
    assert (refused.status_code, "Nothing was moved" in refused.content.decode()) == (422, True)
    assert admin.post(path, {"reason": "the desk is closed"}).status_code == 302
    figures = lengths.figures([topology.queue(name).id for name in ("rebooking", "lost")])
    assert sorted(each.ready for each in figures.values()) == [1, 2]
    entry = last_entry()
    assert (entry.operation, entry.resource, entry.principal) == ("move", "rebooking", "admin")
    assert (entry.details["target"], entry.details["messages"], entry.details["reason"]) == (
        *("lost", 2),
        "the desk is closed",
    )


def test_a_target_that_cannot_be_is_explained(admin: Client, jfk: Airport) -> None:
    jfk.send(1)
    for target in ("rebooking", "absent", "", "a b", "<script>"):
        response = admin.post(f"{REBOOKING}move/?target={target}", {"reason": "why not"})
        assert (target, response.status_code) == (target, 422)
        assert error_at(response.content.decode(), "target")


def test_a_plan_warns_of_a_target_without_room(admin: Client, jfk: Airport) -> None:
    declaring.declare_queue("small", max_length=1)
    jfk.send(1, 2, 3)
    page = text(admin, f"{REBOOKING}move/?target=small")
    assert "2 are more than small has room for: it gives up its oldest" in page
    assert "no consumer" in page


def test_a_purge_needs_the_name_and_a_reason(admin: Client, jfk: Airport) -> None:
    jfk.send(1, 2, 3)
    jfk.claim()
    for form in ({"confirmation": "rebook", "reason": "x"}, {"confirmation": "rebooking", "reason": ""}):
        assert admin.post(f"{REBOOKING}purge/", form).status_code == 422
    assert lengths.figures([topology.queue("rebooking").id])[topology.queue("rebooking").id].ready == 2
    form = {"confirmation": "rebooking", "reason": "test data"}
    response = admin.post(f"{REBOOKING}purge/", form, follow=True)
    assert "2 messages were purged" in response.content.decode()
    figures = lengths.figures([topology.queue("rebooking").id])[topology.queue("rebooking").id]
    assert (figures.ready, figures.unacknowledged) == (0, 1)
    entry = last_entry()
    assert (entry.operation, entry.details) == ("purge", {"messages": 2, "reason": "test data"})


def test_deleting_lists_what_goes_and_needs_the_typed_name(admin: Client, jfk: Airport) -> None:
    jfk.send(1)
    page = text(admin, f"{REBOOKING}delete/")
    assert "<strong>1 message</strong>" in page
    assert "flights by <code>flight.*.UA</code>" in page
    assert admin.post(f"{REBOOKING}delete/", {"confirmation": "x"}).status_code == 422
    assert admin.post(f"{REBOOKING}delete/", {"confirmation": "rebooking"}).status_code == 302
    assert not Queue.objects.filter(name="rebooking").exists()
    assert last_entry().operation == "delete"


# -- what every page keeps to ---------------------------------------------------------------------------------------

PAGES = (
    "",
    "unacknowledged/",
    "consumers/",
    "bindings/",
    "policy/",
    "settings/",
    "publish/",
    "move/?target=lost",
    "purge/",
    "delete/",
)


def test_a_queue_that_is_not_there(admin: Client) -> None:
    for page in PAGES:
        assert "There is no queue" in text(admin, f"/admin/queues/absent/{page}", 404)


def test_a_page_costs_few_statements_whatever_it_shows(admin: Client, jfk: Airport) -> None:
    for number in range(50):
        declaring.declare_queue(f"queue-{number}")
        declaring.bind("archive", queue=f"queue-{number}")
    numbers = jfk.send(*range(40))
    jfk.claim(5)
    paths = ["/admin/queues/", *(f"{REBOOKING}{page}" for page in PAGES), f"{REBOOKING}?open={jfk.row(numbers[-1])}"]
    for path in paths:
        admin.get(path)
        with counted_statements() as sent:
            page = text(admin, path)
        assert len(sent) <= MOST_STATEMENTS, (path, sent)
        assert len(page) < 65_000, (path, len(page))
