"""Who sees and changes what on the screens of exchanges and queues."""

from __future__ import annotations

import pytest
from django.test import Client

from brokers.models import Binding, Exchange, Queue
from brokers.models import Message as MessageRow
from brokers.queues import declaring, lengths, topology
from tests.integration.console.failing import signed_in, text
from tests.integration.console.queueing import Airport, airport

REBOOKING = "/admin/queues/rebooking/"
FLIGHTS = "/admin/exchanges/flights/"


@pytest.fixture
def jfk(transactional_db: None) -> Airport:
    return airport()


def statuses(client: Client, *paths: str) -> dict[str, int]:
    return {path: client.get(path).status_code for path in paths}


def test_a_page_needs_its_operation_on_that_name(jfk: Airport) -> None:
    [number] = jfk.send(1)
    row = jfk.row(number)
    needed = {
        REBOOKING: "describe",
        f"{REBOOKING}unacknowledged/": "describe",
        f"{REBOOKING}consumers/": "describe",
        f"{REBOOKING}bindings/": "describe",
        f"{REBOOKING}policy/": "describe",
        f"{REBOOKING}settings/": "describe",
        f"{REBOOKING}messages/{row}/": "read",
        f"{REBOOKING}messages/{row}/body": "view_payload",
        f"{REBOOKING}publish/": "write",
        f"{REBOOKING}purge/": "delete",
        f"{REBOOKING}delete/": "delete",
    }
    of_exchange = {FLIGHTS: "describe", f"{FLIGHTS}routes/": "describe", f"{FLIGHTS}publish/": "write"}
    for operation in ("describe", "read", "view_payload", "write", "delete"):
        implied = {operation} | ({"describe"} if operation != "view_payload" else set())
        client = signed_in(f"{operation}:queue/rebooking", f"{operation}:exchange/flights")
        for path, wanted in (needed | of_exchange).items():
            assert (operation, path, client.get(path).status_code) == (
                operation,
                path,
                200 if wanted in implied else 403,
            )
    others = signed_in("read:queue/rebookin", "read:queue/rebooking-2*", "read:exchange/flight")
    assert set(statuses(others, *needed, *of_exchange).values()) == {403}
    assert set(statuses(Client(), *needed, *of_exchange).values()) == {302}


def test_a_refusal_does_not_tell_whether_it_exists(jfk: Airport) -> None:
    client = signed_in()
    for kind, name in (("queues", "rebooking"), ("exchanges", "flights")):
        there, absent = client.get(f"/admin/{kind}/{name}/"), client.get(f"/admin/{kind}/absent/")
        assert there.status_code == absent.status_code == 403
        assert there.content.decode().count(name) == absent.content.decode().count("absent")


def test_lists_drawings_and_routes_name_only_what_may_be_described(jfk: Airport) -> None:
    client = signed_in("describe:queue/rebooking", "describe:exchange/flights")
    asked = f"{FLIGHTS}routes/?routing_key=flight.JFK.UA"
    pages = {path: text(client, path) for path in ("/admin/queues/", "/admin/exchanges/", FLIGHTS, asked, "/admin/")}
    for path, page in pages.items():
        for hidden in ("all-flights", "archive", "lost"):
            assert (path, hidden in page) == (path, False)
    assert "/admin/queues/rebooking/" in pages["/admin/queues/"]
    assert "It reaches 1 queue and 1 that you may not see" in pages[asked]
    assert "flights" not in text(signed_in("describe:queue/*"), f"{REBOOKING}bindings/").partition("<tbody>")[2]


def test_bodies_need_view_payload_and_keys_read(jfk: Airport) -> None:
    [number] = jfk.send({"seat": "12A"}, headers={"passport": "X1"})
    row = jfk.row(number)
    describes = text(signed_in("describe:queue/rebooking"), f"{REBOOKING}?open={row}")
    assert "You lack: read on queue rebooking" in describes
    assert "12A" not in describes
    assert "flight.JFK.UA" not in describes.partition("<main")[2]
    reads = signed_in("read:queue/rebooking")
    for path in (REBOOKING, f"{REBOOKING}?open={row}", f"{REBOOKING}messages/{row}/"):
        page = text(reads, path)
        assert "12A" not in page
        assert "flight.JFK.UA" in page
    assert "You lack: view_payload on queue rebooking" in text(reads, f"{REBOOKING}messages/{row}/")
    views = signed_in("read:queue/rebooking", "view_payload:queue/rebooking")
    assert "12A" in text(views, f"{REBOOKING}messages/{row}/")


def test_changes_are_refused_without_their_operation(jfk: Airport) -> None:
    jfk.send(1)
    [held] = jfk.claim()
    jfk.send(2)
    client = signed_in("read:queue/*", "view_payload:queue/*", "describe:exchange/*", "write:queue/lost")
    binding = Binding.objects.get(queue__name="rebooking")
    for path, form in (
        (f"{REBOOKING}pause/", {}),
        (f"{REBOOKING}resume/", {}),
        (f"{REBOOKING}release/", {"message": str(held.row)}),
        (f"{REBOOKING}publish/", {"kind": "json", "body": "1"}),
        (f"{REBOOKING}move/?target=lost", {"reason": "x"}),
        (f"{REBOOKING}purge/", {"confirmation": "rebooking", "reason": "x"}),
        (f"{REBOOKING}delete/", {"confirmation": "rebooking"}),
        (f"{FLIGHTS}unbind/", {"binding": str(binding.pk)}),
        (f"{FLIGHTS}publish/", {"kind": "json", "body": "1"}),
        (f"{FLIGHTS}delete/", {"confirmation": "flights"}),
        (FLIGHTS, {"destination": "queue", "name": "lost", "routing_key": "x"}),
    ):
        assert (path, client.post(path, form).status_code) == (path, 403)
    binds = signed_in("read:exchange/flights", "describe:queue/*")
    bound = binds.post(FLIGHTS, {"destination": "queue", "name": "lost", "routing_key": "x"})
    assert (bound.status_code, "not granted" in bound.content.decode()) == (422, True)
    figures = lengths.figures([topology.queue("rebooking").id])[topology.queue("rebooking").id]
    assert (figures.ready, figures.unacknowledged) == (1, 1)
    assert not Queue.objects.get(name="rebooking").paused
    assert Binding.objects.count() == 4


def test_moving_needs_write_on_the_target(jfk: Airport) -> None:
    jfk.send(1)
    client = signed_in("read:queue/rebooking", "delete:queue/rebooking", "describe:queue/*")
    response = client.post(f"{REBOOKING}move/?target=lost", {"reason": "x"})
    assert (response.status_code, "not granted" in response.content.decode()) == (422, True)
    assert MessageRow.objects.filter(queue_id=topology.queue("lost").id).count() == 0
    reader = signed_in("delete:queue/rebooking", "write:queue/lost")
    assert reader.get(f"{REBOOKING}move/?target=lost").status_code == 403


def test_declaring_needs_create_and_write_on_what_it_names(transactional_db: None) -> None:
    declaring.declare_exchange("strays")
    client = signed_in("create:queue/team.*", "create:exchange/team.*")
    queue = {"dead_letter_to": "", "overflow": "", "dead_letters": "unrouted"}
    letters = {"dead_letter_to": "exchange", "dead_letter_exchange": "strays"}
    for path, form in (
        ("/admin/new-queue/", queue | {"name": "other"}),
        ("/admin/new-queue/", queue | letters | {"name": "team.a"}),
        ("/admin/new-exchange/", {"name": "other", "type": "direct"}),
        ("/admin/new-exchange/", {"name": "team.a", "type": "direct", "alternate_exchange": "strays"}),
    ):
        response = client.post(path, form)
        assert (response.status_code, "is not granted" in response.content.decode()) == (422, True)
    assert client.post("/admin/new-queue/", queue | {"name": "team.a"}).status_code == 302
    assert client.post("/admin/new-exchange/", {"name": "team.a", "type": "direct"}).status_code == 302
    assert (list(Queue.objects.values_list("name", flat=True)), Exchange.objects.count()) == (["team.a"], 2)
