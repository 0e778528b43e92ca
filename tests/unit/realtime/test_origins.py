"""Which origins may connect: this server's own, the listed ones, and callers that are no browser."""

from __future__ import annotations

import pytest
from pytest_django.fixtures import Settings

from realtime import origins


@pytest.fixture(autouse=True)
def _hosts(settings: Settings) -> None:
    settings.ALLOWED_HOSTS = ["waystation.example", "localhost", "[::1]", ".wild.example"]
    settings.LIVE_ALLOWED_ORIGINS = ("https://board.example", "http://board.example:8080")


def headers(origin: str | None, host: str = "waystation.example", **more: str) -> list[tuple[bytes, bytes]]:
    pairs = [(b"host", host.encode())] + [(name.encode(), value.encode()) for name, value in more.items()]
    return pairs if origin is None else [*pairs, (b"origin", origin.encode())]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "waystation.example"),
        ("https://waystation.example", "waystation.example"),
        ("http://waystation.example", "waystation.example"),
        ("http://waystation.example:8000", "waystation.example:8000"),
        ("https://waystation.example", "WAYSTATION.example:443"),
        ("http://localhost:8000", "localhost:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("https://a.wild.example", "a.wild.example"),
        ("https://board.example", "waystation.example"),
        ("https://board.example:443", "waystation.example"),
        ("http://board.example:8080", "waystation.example"),
    ],
)
def test_these_may_connect(origin: str | None, host: str) -> None:
    assert origins.is_allowed(headers(origin, host))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "waystation.example"),
        ("", "waystation.example"),
        ("https://waystation.example.evil.example", "waystation.example"),
        ("https://evil-waystation.example", "waystation.example"),
        ("https://waystation.example@evil.example", "waystation.example"),
        ("https://WAYSTATION.example", "waystation.example"),
        ("https://waystation.example/", "waystation.example"),
        ("https://waystation.example ", "waystation.example"),
        ("https://waystation.example\n", "waystation.example"),
        ("https://waystation.example:8443", "waystation.example"),
        ("http://waystation.example:8000", "waystation.example"),
        ("ftp://waystation.example", "waystation.example"),
        ("file://", "waystation.example"),
        ("waystation.example", "waystation.example"),
        ("https://evil.example", "evil.example"),
        ("https://board.example.evil.example", "waystation.example"),
        ("http://board.example", "waystation.example"),
        ("https://board.example:8080", "waystation.example"),
        ("https://wildXexample", "wildXexample"),
        ("https://waystation.example", ""),
        ("https://waystation.example", "waystation.example, evil.example"),
    ],
)
def test_these_may_not_connect(origin: str, host: str) -> None:
    assert not origins.is_allowed(headers(origin, host))


def test_a_repeated_origin_is_none_at_all() -> None:
    twice = [*headers("https://waystation.example"), (b"origin", b"https://waystation.example")]
    assert not origins.is_allowed(twice)


def test_a_cookie_is_believed_from_a_page_that_says_where_it_is_from() -> None:
    assert origins.is_page(headers("https://waystation.example"))
    assert origins.is_page(headers(None, **{"sec-fetch-site": "same-origin"}))
    assert not origins.is_page(headers(None))
    assert not origins.is_page(headers(None, **{"sec-fetch-site": "same-site"}))
    assert not origins.is_page(headers("https://evil.example", **{"sec-fetch-site": "same-origin"}))
