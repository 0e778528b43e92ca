"""The Exchanges screens: the list, bindings and where they lead, the route tester, publishing, declaring, deleting."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from django.test import Client

from brokers.models import AuditEntry, Binding, Exchange, ExchangeMinute
from brokers.models import Message as MessageRow
from brokers.queues import declaring
from tests.integration.console.failing import HOSTILE, MOST_STATEMENTS, counted_statements, text
from tests.integration.console.queueing import Airport, airport

FLIGHTS = "/admin/exchanges/flights/"


@pytest.fixture
def jfk(transactional_db: None) -> Airport:
    return airport()


def cell(page: str, label: str, nth: int = 0) -> str:
    """What the nth cell of that label holds, without markup."""
    cells = re.findall(rf'<td[^>]*data-label="{label}"[^>]*>(.*?)</td>', page, re.DOTALL)
    return re.sub(r"<[^>]+>", "", cells[nth]).strip()


def routes(client: Client, **asked: str) -> str:
    return text(client, f"{FLIGHTS}routes/?{urlencode(asked)}")


def reached(page: str) -> set[str]:
    """The queues that the route tester names above its table."""
    head = page.partition('id="verdict"')[2].partition("<table")[0]
    return set(re.findall(r'href="/admin/queues/([^/]+)/"', head))


# -- the list -------------------------------------------------------------------------------------------------------


def test_an_empty_list_offers_the_first_step(admin: Client) -> None:
    page = text(admin, "/admin/exchanges/")
    assert "There is no exchange yet" in page
    assert "/admin/new-exchange/" in page


def test_the_list_shows_bindings_and_rates(admin: Client, jfk: Airport) -> None:
    exchange = Exchange.objects.get(name="flights")
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
    for at in (minute, minute + timedelta(minutes=1)):  # whichever minute it is when the page is read
        ExchangeMinute.objects.create(exchange_id=exchange.id, minute=at, published=120, unrouted=60)
    page = text(admin, "/admin/exchanges/?q=fl")
    assert (cell(page, "Type"), cell(page, "Bindings")) == ("topic", "2")
    assert (cell(page, "In"), cell(page, "Unroutable")) == ("2.0 /s", "1.0 /s")
    assert "/admin/exchanges/archive/" not in page


def test_any_filter_is_taken_literally(admin: Client, jfk: Airport) -> None:
    for query in ("q=%25", "q=%00", "after=%00", "q=<script>", "q=" + "x" * 5000):
        assert "No exchange matches" in text(admin, f"/admin/exchanges/?{query}")


# -- one exchange ---------------------------------------------------------------------------------------------------


def test_bindings_are_listed_and_drawn(admin: Client, jfk: Airport) -> None:
    page = text(admin, FLIGHTS)
    assert cell(page, "Routing key") == "flight.*.UA"
    drawn = re.findall(r'<text x="\d+" y="\d+" dx="12" dy="17">([^<]+)<', page)
    assert set(drawn) == {"flights", "rebooking", "archive", "all-flights", "strays", "lost"}
    assert page.count('class="edge alternate"') == 1


def test_the_drawing_keeps_to_its_bounds(admin: Client, jfk: Airport) -> None:
    for number in range(90):
        declaring.declare_queue(f"queue-{number}")
        declaring.bind("flights", queue=f"queue-{number}", routing_key=f"key-{number}")
    page = text(admin, FLIGHTS)
    assert page.count('dx="12"') == 60
    assert re.search(r"\d+ more destinations found no room", page)
    assert 'rel="next"' in page


def test_a_cycle_of_exchanges_is_drawn_and_ends(admin: Client, jfk: Airport) -> None:
    declaring.bind("archive", to_exchange="flights")
    declaring.bind("flights", to_exchange="flights", routing_key="self")
    assert text(admin, FLIGHTS).count('dx="12"') == 6


def test_a_binding_is_added(admin: Client, jfk: Airport) -> None:
    form = {"destination": "queue", "name": "lost", "routing_key": "flight.EWR.#", "arguments": "note: 1"}
    response = admin.post(FLIGHTS, form)
    assert (response.status_code, response["Location"]) == (302, FLIGHTS)
    binding = Binding.objects.get(exchange__name="flights", queue__name="lost")
    assert (binding.routing_key, binding.arguments) == ("flight.EWR.#", '{"note":1}')
    assert AuditEntry.objects.latest("id").operation == "bind"
    again = admin.post(FLIGHTS, form, follow=True)
    assert "already" in again.content.decode()


def test_a_faulty_binding_is_explained(admin: Client, jfk: Airport) -> None:
    for field, value, says in (
        ("name", "absent", "There is no queue"),
        ("name", "", "required"),
        ("routing_key", "#.a.#.b.#", "#"),
        ("arguments", "no colon", "Line 1"),
        ("destination", "topic", "valid choice"),
    ):
        response = admin.post(FLIGHTS, {"destination": "queue", "name": "lost", "routing_key": "x", field: value})
        assert (field, response.status_code) == (field, 422)
        assert says in response.content.decode().partition(f'id="id_{field}_error">')[2].partition("</p>")[0]
    assert not Binding.objects.filter(exchange__name="flights", queue__name="lost").exists()


def test_a_headers_exchange_refuses_an_unknown_x_match(admin: Client, transactional_db: None) -> None:
    declaring.declare_exchange("desk", type="headers")
    declaring.declare_queue("crew")
    form = {"destination": "queue", "name": "crew", "arguments": "x-match: some\nhub: JFK"}
    assert "x-match" in admin.post("/admin/exchanges/desk/", form).content.decode()
    assert not Binding.objects.exists()


def test_a_binding_is_taken_away(admin: Client, jfk: Airport) -> None:
    binding = Binding.objects.get(exchange__name="flights", queue__name="rebooking")
    admin.post(f"{FLIGHTS}unbind/", {"binding": binding.pk})
    assert not Binding.objects.filter(pk=binding.pk).exists()
    assert AuditEntry.objects.latest("id").operation == "unbind"
    again = admin.post(f"{FLIGHTS}unbind/", {"binding": binding.pk}, follow=True)
    assert "gone already" in again.content.decode()


def test_taking_away_what_is_no_binding_changes_nothing(admin: Client, jfk: Airport) -> None:
    before = Binding.objects.count()
    for value in ("", "x", "-1", "9" * 30):
        admin.post(f"{FLIGHTS}unbind/", {"binding": value})
    other = Binding.objects.get(exchange__name="archive", queue__name="all-flights")
    admin.post(f"{FLIGHTS}unbind/", {"binding": other.pk})
    assert Binding.objects.count() == before


# -- the route tester -----------------------------------------------------------------------------------------------


def test_the_route_tester_names_the_queues_and_says_why(admin: Client, jfk: Airport) -> None:
    for key, queues in (
        ("flight.JFK.UA", {"rebooking", "all-flights"}),
        ("flight.JFK.AA", {"all-flights"}),
        ("weather.JFK", {"lost"}),
    ):
        page = routes(admin, routing_key=key)
        assert reached(page) == queues
        assert f"It reaches {len(queues)} queue" in page
    page = routes(admin, routing_key="flight.JFK.UA")
    steps = page.partition('id="verdict"')[2]
    assert "flight.*.UA" in steps
    assert "fanout" in steps
    assert "alternate" in routes(admin, routing_key="weather.JFK").partition('id="verdict"')[2]


def test_the_route_tester_looks_at_headers(admin: Client, transactional_db: None) -> None:
    declaring.declare_exchange("flights", type="headers")
    declaring.declare_queue("crew")
    declaring.bind("flights", queue="crew", arguments={"seats": 5})
    assert reached(routes(admin, routing_key="", headers="seats: 5")) == {"crew"}
    page = routes(admin, routing_key="", headers='seats: "5"')
    assert "It reaches no queue" in page


def test_carbon_copies_are_routed_too(admin: Client, jfk: Airport) -> None:
    page = routes(admin, routing_key="weather", headers='CC: ["flight.JFK.UA"]')
    assert reached(page) == {"rebooking", "all-flights"}
    assert "routed by 2 keys" in page


def test_a_faulty_question_is_explained(admin: Client, jfk: Airport) -> None:
    for asked in ({"headers": "no colon"}, {"headers": "CC: x"}, {"routing_key": "ü" * 200}):
        response = admin.get(f"{FLIGHTS}routes/?{urlencode({'routing_key': '', **asked})}")
        assert response.status_code == 422
        assert 'id="verdict"' not in response.content.decode()
    assert not MessageRow.objects.exists()


# -- publishing, declaring, deleting --------------------------------------------------------------------------------


def test_publishing_says_how_many_queues_it_reached(admin: Client, jfk: Airport) -> None:
    form = {"kind": "json", "body": '{"n": 1}', "routing_key": "flight.JFK.UA"}
    response = admin.post(f"{FLIGHTS}publish/", form, follow=True)
    assert "it reached 2 queues" in response.content.decode()
    assert MessageRow.objects.count() == 2


def test_what_reaches_no_queue_is_said_and_refused_when_mandatory(admin: Client, transactional_db: None) -> None:
    declaring.declare_exchange("flights", type="topic")
    form = {"kind": "text", "body": "x", "routing_key": "weather"}
    page = admin.post(f"{FLIGHTS}publish/", form, follow=True).content.decode()
    assert "reached no queue and was dropped" in page
    assert 'href="/admin/exchanges/flights/routes/?routing_key=weather"' in page
    response = admin.post(f"{FLIGHTS}publish/", form | {"mandatory": "on"})
    assert response.status_code == 422


def test_an_exchange_is_declared(admin: Client, transactional_db: None) -> None:
    form = {"name": "flights", "type": "topic", "alternate_exchange": "strays"}
    response = admin.post("/admin/new-exchange/", form)
    assert (response.status_code, response["Location"]) == (302, FLIGHTS)
    found = Exchange.objects.get()
    assert (found.name, found.type, found.alternate_exchange) == ("flights", "topic", "strays")
    assert "was there already" in admin.post("/admin/new-exchange/", form, follow=True).content.decode()
    other = admin.post("/admin/new-exchange/", form | {"type": "direct"})
    assert (other.status_code, 'id="id_type_error"' in other.content.decode()) == (422, True)


def test_a_faulty_declaration_is_explained(admin: Client, transactional_db: None) -> None:
    for field, value in (("name", "a b"), ("name", ".."), ("type", "x-custom"), ("alternate_exchange", "a b")):
        response = admin.post("/admin/new-exchange/", {"name": "flights", "type": "topic", field: value})
        assert response.status_code == 422
        assert f'id="id_{field}_error"' in response.content.decode()
    assert not Exchange.objects.exists()


def test_deleting_needs_the_typed_name(admin: Client, jfk: Airport) -> None:
    assert admin.post(f"{FLIGHTS}delete/", {"confirmation": "flight"}).status_code == 422
    assert admin.post(f"{FLIGHTS}delete/", {"confirmation": "flights"}).status_code == 302
    assert not Exchange.objects.filter(name="flights").exists()
    assert AuditEntry.objects.latest("id").operation == "delete"


# -- what every page keeps to ---------------------------------------------------------------------------------------


def test_an_exchange_that_is_not_there(admin: Client) -> None:
    for page in ("", "routes/", "publish/", "delete/"):
        assert "There is no exchange" in text(admin, f"/admin/exchanges/absent/{page}", 404)


def test_hostile_keys_and_arguments_stay_inert(admin: Client, jfk: Airport) -> None:
    declaring.declare_exchange("desk", type="headers")
    declaring.bind("desk", queue="lost", routing_key=HOSTILE, arguments={HOSTILE: HOSTILE})
    asked = urlencode({"routing_key": HOSTILE, "headers": f"{HOSTILE}: {HOSTILE}"})
    for path in ("exchanges/desk/", f"exchanges/desk/routes/?{asked}", "queues/lost/bindings/"):
        page = admin.get(f"/admin/{path}").content.decode()
        assert "<script>document" not in page
        assert "<img" not in page
        assert "\u202e" not in re.sub(r"<(?:input|textarea)[^>]*>[^<]*", "", page)


def test_a_page_costs_few_statements_whatever_it_shows(admin: Client, jfk: Airport) -> None:
    for number in range(40):
        declaring.declare_exchange(f"exchange-{number}", type="fanout")
        declaring.bind("flights", to_exchange=f"exchange-{number}", routing_key="flight.#")
        declaring.bind(f"exchange-{number}", queue="lost")
    for path in ("/admin/exchanges/", FLIGHTS, f"{FLIGHTS}routes/?routing_key=flight.JFK.UA", f"{FLIGHTS}publish/"):
        admin.get(path)
        with counted_statements() as sent:
            page = text(admin, path)
        assert len(sent) <= MOST_STATEMENTS, (path, sent)
        assert len(page) < 130_000
