"""The Overview says in one sentence how things are, and shows the topics a reader may see."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from brokers.models import Topic, TopicMinute
from brokers.queues import declaring, sending
from brokers.selectors import parts
from brokers.selectors.parts import Part


def test_an_empty_server_offers_the_first_step(admin: Client) -> None:
    page = admin.get("/admin/").content.decode()
    assert "There is no topic yet" in page
    assert "/admin/new-topic/" in page


def test_figures_chart_and_topics(admin: Client, orders: str) -> None:
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=2)
    TopicMinute.objects.create(topic=Topic.objects.get(name=orders), minute=minute, records=6000)
    page = admin.get("/admin/").content.decode()
    assert "peak 100 /s in this hour" in page
    assert 'href="/admin/topics/orders/"' in page
    assert f'<td>{minute:%H:%M}</td><td class="num">6,000</td>' in page
    assert "<polyline" in page


def test_problems_are_named_first(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Part("PostgreSQL", "healthy", "1 ms"), Part("Valkey", "degraded", "cannot be reached")]
    monkeypatch.setattr(parts, "health", lambda: found)
    page = admin.get("/admin/").content.decode()
    assert "1 problem: <strong>Valkey</strong> is degraded." in page
    monkeypatch.setattr(parts, "health", lambda: found[:1])
    assert "Everything keeps up." in admin.get("/admin/").content.decode()


def test_a_tile_says_what_waits_in_queues(admin: Client, staff: Callable[..., Client]) -> None:
    page = admin.get("/admin/").content.decode()
    assert "0 unacked in 0 queues" in page
    for name in ("crew", "rebooking"):
        declaring.declare_queue(name)
        sending.send("", name, 1)
    page = admin.get("/admin/").content.decode()
    assert re.search(r"<dt>Messages ready</dt><dd class=\"figure\" title=\"2\">2</dd>", page)
    assert re.search(r"oldest [0-9.]+ m?s, 0 unacked", page)
    assert "0 unacked in 0 queues" in staff().get("/admin/").content.decode()
