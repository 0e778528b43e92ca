"""The cookie that follows a ticket."""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest

from brokers.errors import InvalidToken
from realtime.sse import tickets

PATH = "/api/notifications/stream"


def cookie(**scope: str) -> SimpleCookie:
    _, text = tickets._cookie({"path": PATH} | scope, "token-1")
    return SimpleCookie(text.decode())


def test_it_is_secure_over_https_alone() -> None:
    assert [morsel["secure"] for morsel in cookie(scheme="https").values()] == [True]
    assert [morsel["secure"] for morsel in cookie(scheme="http").values()] == [""]


def test_an_address_adds_nothing_to_it() -> None:
    [morsel] = cookie(path="/api/v1/topics/a; Domain=x\r\n/stream").values()
    assert (morsel["path"], morsel["domain"]) == ("/api/v1/topics/a%3B%20Domain%3Dx%0D%0A/stream", "")


def test_cookies_of_two_owners_keep_apart_and_neither_names_its_token() -> None:
    _, other = tickets._cookie({"path": PATH}, "token-2")
    [name] = cookie()
    assert name not in other.decode()
    assert "token-1" not in name


@pytest.mark.parametrize("value", ["", "x", "eyJhIjoxfQ:1:x", '"', "%22", "[]"])
def test_what_was_not_signed_here_is_no_cookie(value: str) -> None:
    name = tickets._name(tickets._mark("token-1"))
    scope = {"path": PATH, "headers": [(b"cookie", f"{name}={value}".encode())]}
    with pytest.raises(InvalidToken):
        tickets._of_cookie(scope, tickets._mark("token-1"))
