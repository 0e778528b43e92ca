"""Which changes open pages are told of, and how often."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers.errors import Unavailable
from brokers.selectors import changes
from brokers.wakeup import Hub
from messaging_site.console import live_changes
from messaging_site.console.live_changes import KINDS, Changes
from tests.web_process import eventually

TEMPLATES = Path(__file__).resolve().parents[3] / "templates"

pytestmark = pytest.mark.usefixtures("marks")
Marks = dict[str, str]


def test_every_live_region_asks_for_kinds_that_there_are() -> None:
    asked: set[str] = set()
    for path in TEMPLATES.rglob("*.html"):
        for tag in re.findall(r"<[^<>]*(?:{%[^%]*%}[^<>]*)*data-live=[^>]*>", path.read_text(encoding="utf-8")):
            found = re.search(r'data-live="([a-z -]+)"', tag)
            assert found is not None, (path.name, tag)
            asked |= set(found[1].split())
            assert re.search(r'hx-select="#[a-z]+"', tag), (path.name, tag)
            assert 'hx-trigger="refresh"' in tag, (path.name, tag)
    assert asked == set(KINDS)


class Page:
    """A watcher that remembers what it was told."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = frozenset(kinds)
        self.told: list[str] = []

    def changed(self, kind: str) -> None:
        self.told.append(kind)


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> Marks:
    """The marks that the database would give; an entry `away` makes it unavailable."""
    found = dict.fromkeys(changes.KINDS, "0")

    async def give() -> Marks:
        if "away" in found:
            raise Unavailable("away")
        return dict(found)

    monkeypatch.setattr(changes, "marks", give)
    monkeypatch.setattr(live_changes, "POLL_INTERVAL_SECONDS", 0.01)
    return found


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that believes to be connected, and is not started."""
    made = Hub(lambda kind, name: None)
    made.connected = True
    yield made
    made.connected = False


async def test_a_hint_tells_those_who_asked_for_its_kind(hub: Hub) -> None:
    told = Changes(hub)
    one, other = Page("topics", "queues"), Page("queues")
    told.add(one)
    told.add(other)
    hub._hear("p7 q8 r n5 nonsense")
    assert (sorted(one.told), other.told) == (["queues", "topics"], ["queues"])
    told.remove(one)
    told.remove(other)


@pytest.mark.parametrize(
    ("hint", "kinds"),
    [
        ("p1", {"topics", "groups"}),
        ("q1", {"queues", "exchanges"}),
        ("x", {"queues", "exchanges"}),
        ("tdepartures", {"topics", "groups", "dead-letters"}),
        ("r", {"replays", "dead-letters"}),
        ("c", {"connections"}),
        ("", set(KINDS)),
        ("d0123", set()),
        ("kabc", set()),
    ],
)
async def test_what_a_hint_may_have_changed(hint: str, kinds: set[str], hub: Hub) -> None:
    told, page = Changes(hub), Page(*KINDS)
    told.add(page)
    hub._tell(hint)
    assert set(page.told) == kinds
    told.remove(page)


async def test_a_kind_is_told_of_at_once_and_then_once_a_second(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_changes, "TELL_SECONDS", 0.3)
    told, page = Changes(hub), Page("topics", "queues")
    told.add(page)
    for _ in range(50):
        hub._hear("p1 p2 p3")
    assert page.told == ["topics"]
    hub._hear("q1")
    assert page.told == ["topics", "queues"]
    await eventually(lambda: len(page.told) > 2)
    assert page.told == ["topics", "queues", "topics"]
    told.remove(page)


async def test_a_change_that_no_hint_tells_of_is_seen(hub: Hub, marks: Marks) -> None:
    told, page = Changes(hub), Page(*KINDS)
    told.add(page)
    await asyncio.sleep(0.05)
    assert page.told == []
    marks["dead-letters"] = "1"
    await eventually(lambda: bool(page.told))
    assert page.told == ["dead-letters"]
    marks["queues"] = "1"
    await eventually(lambda: len(page.told) == 3)
    assert set(page.told) == {"dead-letters", "queues", "exchanges"}
    told.remove(page)


async def test_a_database_that_comes_back_says_what_changed_meanwhile(hub: Hub, marks: Marks) -> None:
    told, page = Changes(hub), Page("groups")
    told.add(page)
    await asyncio.sleep(0.03)
    marks["away"] = "now"
    await asyncio.sleep(0.03)
    marks["groups"] = "1"
    await asyncio.sleep(0.03)
    assert page.told == []
    del marks["away"]
    await eventually(lambda: page.told == ["groups"])
    told.remove(page)


async def test_without_redis_everything_may_have_changed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_changes, "BLIND_SECONDS", 0.02)
    hub.connected = False
    told, page = Changes(hub), Page("topics", "connections")
    told.add(page)
    await eventually(lambda: len(page.told) >= 2)
    assert set(page.told) == {"topics", "connections"}
    told.remove(page)


async def test_nothing_is_looked_at_while_no_page_is_open(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def count() -> Marks:
        nonlocal looks
        looks += 1
        return {}

    monkeypatch.setattr(changes, "marks", count)
    told, page = Changes(hub), Page("topics")
    hub._hear("p1")
    await asyncio.sleep(0.03)
    assert looks == 0
    told.add(page)
    await eventually(lambda: looks > 1)
    hub._hear("p1 p2")
    hub._hear("p1 p2")
    told.remove(page)
    told.remove(page)
    seen = looks
    await asyncio.sleep(0.05)
    assert (looks, page.told, told._waiting) == (seen, ["topics"], {})
