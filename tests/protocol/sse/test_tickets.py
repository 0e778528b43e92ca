"""Tickets, by which a browser's `EventSource` opens a stream, and the cookie by which it comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie

import pytest

from brokers.errors import Unavailable
from realtime import notifications
from realtime.models import StreamTicket
from realtime.sse import tickets
from tests.integration.realtime.following import created
from tests.protocol.sse.serving import Streams, execute, in_thread, issued, revoke, streams

pytestmark = pytest.mark.django_db(transaction=True)
PATH = "/api/notifications/stream"


@pytest.fixture
async def served() -> AsyncIterator[Streams]:
    """A server, and a client of the user ann."""
    async with streams(await issued("ann", ("read", "topic", ""))) as made:
        yield made


async def ticket(served: Streams, token: str | None = None) -> str:
    """A new one, of the client's token or another."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = await served.client.post("/api/v1/tickets", headers=headers)
    assert (answer.status_code, answer.json()["expires_in"]) == (200, 30)
    assert answer.headers["cache-control"] == "no-store"
    made: str = answer.json()["ticket"]
    return made


async def test_a_ticket_opens_a_stream_and_its_cookie_opens_it_again(served: Streams) -> None:
    address = f"{PATH}?ticket={await ticket(served)}"
    async with served.browser() as browser:
        async with browser.open(address) as stream:
            assert (await stream.next()).json() == {"user": "ann"}
            [(name, morsel)] = SimpleCookie(stream.response.headers["set-cookie"]).items()
        assert (morsel["path"], morsel["httponly"], morsel["samesite"]) == (PATH, True, "Strict")
        assert (morsel["secure"], morsel["max-age"], morsel["domain"]) == ("", str(12 * 3600), "")
        for _ in range(2):
            async with browser.open(address) as again:
                await again.next()
                assert name in again.response.headers["set-cookie"]
    async with served.browser() as another:
        answer = await another.client.get(address)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")


async def test_a_ticket_that_is_late_or_malformed_or_of_nobody_opens_nothing(served: Streams) -> None:
    late = await ticket(served)
    await execute("update realtime_stream_ticket set expires_at = now() - interval '1 second'")
    made = await ticket(served)
    for wrong in (late, "", "x", made[:-1], made + "A", made.upper(), "wsk_" + "0" * 12 + "_" + "A" * 43, "é", "%0a"):
        async with served.browser() as browser:
            answer = await browser.client.get(f"{PATH}?ticket={wrong}")
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token"), wrong
            assert "set-cookie" not in answer.headers
    async with served.browser() as browser, browser.open(f"{PATH}?ticket={made}"):
        pass


async def test_the_cookie_is_worth_nothing_elsewhere(served: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    info = await created()
    elsewhere = f"/api/v1/topics/{info.name}/stream"
    used = await ticket(served)
    of_bob = await ticket(served, await issued("bob"))
    async with served.browser() as browser:
        async with browser.open(f"{PATH}?ticket={used}") as stream:
            cookie = stream.response.headers["set-cookie"].partition(";")[0]
        async with browser.open(f"{PATH}?ticket={of_bob}"):
            pass
    name, _, value = cookie.partition("=")
    async with served.browser() as browser:
        for path, ticket_text, sent in (
            (elsewhere, used, cookie),
            (PATH, of_bob, cookie),
            (PATH, of_bob, f"{name[:-12]}{of_bob[4:16]}={value}"),
            (PATH, used, f"{name}={value[:-1]}{'A' if value[-1] != 'A' else 'B'}"),
            (PATH, used, f"{name}="),
            (PATH, used, f"x{name}={value}"),
            (PATH, used, f"{'x' * 9000}; {cookie}"),
            (PATH, used, f'"; =; {name}'),
        ):
            answer = await browser.client.get(path, params={"ticket": ticket_text}, headers={"Cookie": sent})
            assert answer.status_code == 401, sent[:100]
        assert (await browser.client.get(PATH, headers={"Cookie": cookie})).status_code == 401
        async with browser.open(f"{PATH}?ticket={used}", headers={"Cookie": f"other=1; {cookie}"}):
            pass
        monkeypatch.setattr(tickets, "COOKIE_SECONDS", -1)
        answer = await browser.client.get(PATH, params={"ticket": used}, headers={"Cookie": cookie})
        assert answer.status_code == 401


async def test_a_ticket_opens_what_its_token_may_read_and_ends_with_it(served: Streams) -> None:
    info = await created()
    token = await issued("carol", ("read", "topic", info.name))
    other = await created()
    async with served.browser() as browser:
        answer = await browser.client.get(f"/api/v1/topics/{other.name}/stream?ticket={await ticket(served, token)}")
        assert answer.status_code == 403
        address = f"/api/v1/topics/{info.name}/stream?ticket={await ticket(served, token)}"
        unused = await ticket(served, token)
        async with browser.open(address) as stream:
            await stream.next()
            await revoke("carol")
            [error] = await stream.rest(5)
            assert error.json()["code"] == "token_revoked"
        assert (await browser.client.get(address)).status_code == 401
        assert (await browser.client.get(f"{PATH}?ticket={unused}")).status_code == 401


async def test_a_ticket_is_not_used_up_where_a_token_is_sent_or_the_server_is_full(served: Streams) -> None:
    address = f"{PATH}?ticket={await ticket(served)}"
    async with served.open(address) as stream:
        assert "set-cookie" not in stream.response.headers
    limit, served.live.registry._limit = served.live.registry._limit, 0
    async with served.browser() as browser:
        assert (await browser.client.get(address)).status_code == 503
        served.live.registry._limit = limit
        async with browser.open(address):
            pass


async def test_one_who_is_told_to_come_back_can(served: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(user: str) -> None:
        raise Unavailable("the database cannot be used now")

    address = f"{PATH}?ticket={await ticket(served)}"
    stream = {"Accept": "text/event-stream"}
    async with served.browser() as browser:
        with monkeypatch.context() as patched:
            patched.setattr(notifications, "open_inbox", away)
            async with browser.open(address, headers=stream) as waiting:
                [error] = await waiting.rest()
                assert error.json()["code"] == "store_unavailable"
        async with browser.open(address, headers=stream):
            pass


async def test_what_is_kept_of_a_ticket_is_no_ticket(served: Streams) -> None:
    made = await ticket(served)
    kept = await in_thread(lambda: StreamTicket.objects.get().digest)
    assert made.encode() not in bytes(kept)


async def test_tickets_are_given_to_tokens_alone(served: Streams) -> None:
    async with served.browser() as browser:
        assert (await browser.client.post("/api/v1/tickets")).status_code == 401
        answer = await browser.client.get("/api/v1/tickets")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")
