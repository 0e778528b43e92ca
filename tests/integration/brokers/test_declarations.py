"""What applications declare and how it is made so: created when missing, grown, never shrunk or changed back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import modify_settings

from brokers import topics
from brokers.declarations import declared_topics, discover, reconcile, topic
from brokers.errors import InvalidName, InvalidValue, PartitionsCannotShrink
from brokers.models import AuditEntry, Topic

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nothing_declared")]


def first_byte(key: bytes, count: int) -> int:
    """A partitioner of a user's own."""
    return key[0] % count


def stored(name: str) -> Topic:
    return Topic.objects.get(name=name)


def test_a_declared_topic_is_created_with_its_settings() -> None:
    assert topic("a", partitions=2, retention_ms=1000, retention_bytes=5, max_record_bytes=7) == "a"
    topic("b", retention_ms=None, cleanup_policy="compact", partitioner="murmur2")
    assert reconcile() == ["topic a created with 2 partitions", "topic b created with 3 partitions"]
    a, b = stored("a"), stored("b")
    assert (a.retention_ms, a.retention_bytes, a.max_record_bytes, a.partitions.count()) == (1000, 5, 7, 2)
    assert (b.retention_ms, b.cleanup_policy, b.partitioner) == (None, "compact", "murmur2")
    assert reconcile() == []


def test_partitions_are_added_and_never_taken_away() -> None:
    topics.create("a", partitions=2)
    topics.create("b", partitions=5)
    topic("a", partitions=4)
    topic("b", partitions=4)
    assert reconcile() == ["topic a has 4 partitions now, 2 before"]
    assert (stored("a").partitions.count(), stored("b").partitions.count()) == (4, 5)
    with pytest.raises(PartitionsCannotShrink):
        topics.alter("b", partitions=4)


def test_what_a_person_changed_stays() -> None:
    topic("a", retention_ms=1000)
    reconcile()
    topics.alter("a", retention_ms=2000)
    assert reconcile() == []
    assert stored("a").retention_ms == 2000


def test_the_same_declaration_twice_is_one() -> None:
    topic("a", partitions=2)
    topic("a", partitions=2)
    assert [declared.name for declared in declared_topics()] == ["a"]


@pytest.mark.parametrize(
    "again",
    [lambda: topic("a", partitions=3), lambda: topic("a", partitions=2, partitioner=first_byte)],
)
def test_another_declaration_of_the_same_name_is_refused(again: Callable[[], str]) -> None:
    topic("a", partitions=2)
    with pytest.raises(InvalidValue, match="topic a is declared twice, and differently"):
        again()


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "ü", "a" * 250, "a\n"])
def test_a_name_that_no_topic_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        topic(name)


def test_a_partitioner_must_be_found_by_its_name() -> None:
    topic("a", partitioner=first_byte)
    assert declared_topics()[0].partitioner == f"{__name__}.first_byte"
    with pytest.raises(InvalidValue, match="module-level function"):
        topic("b", partitioner=lambda key, count: 0)

    def local(key: bytes, count: int) -> int:
        return 0

    with pytest.raises(InvalidValue, match="module-level function"):
        topic("c", partitioner=local)


@pytest.mark.parametrize(
    ("settings", "pointer"),
    [
        ({"partitions": 0}, "/partitions"),
        ({"partitions": 1001}, "/partitions"),
        ({"retention_ms": 0}, "/retention_ms"),
        ({"retention_bytes": -1}, "/retention_bytes"),
        ({"retention_bytes": 2**63}, "/retention_bytes"),
        ({"max_record_bytes": 0}, "/max_record_bytes"),
        ({"max_record_bytes": 8 * 1024 * 1024 + 1}, "/max_record_bytes"),
        ({"cleanup_policy": "keep"}, "/cleanup_policy"),
        ({"partitioner": "unknown"}, "/partitioner"),
    ],
)
def test_settings_out_of_range_are_refused_when_it_is_made_so(settings: dict[str, object], pointer: str) -> None:
    topic("a", **settings)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue) as caught:
        reconcile()
    assert [where for where, _ in caught.value.errors] == [pointer]
    assert not Topic.objects.exists()


def test_two_servers_that_start_at_once_create_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    topic("a", partitions=2)
    create = topics.create

    def second(name: str, **settings: object) -> Topic:
        monkeypatch.setattr(topics, "create", create)
        create(name, partitions=2)
        return create(name, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(topics, "create", second)
    assert reconcile() == []
    assert stored("a").partitions.count() == 2


def test_what_it_does_is_audited() -> None:
    topic("a", partitions=2)
    reconcile()
    topics.alter("a", partitions=3)
    topics.delete("a")
    assert [entry.operation for entry in AuditEntry.objects.order_by("id")] == ["create", "alter", "delete"]


def test_the_messaging_module_of_each_installed_app_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for app in ("orders_with_topics", "orders_without"):
        (tmp_path / app).mkdir()
        (tmp_path / app / "__init__.py").touch()
    declaration = "from brokers import topic\ntopic('of-an-app', partitions=2)\n"
    (tmp_path / "orders_with_topics" / "messaging.py").write_text(declaration)
    monkeypatch.syspath_prepend(tmp_path)
    with modify_settings(INSTALLED_APPS={"append": ["orders_with_topics", "orders_without"]}):
        discover()
    assert "of-an-app" in [declared.name for declared in declared_topics()]
