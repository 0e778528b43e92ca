"""Records in the console: pages by offset and time over all partitions, one record, and hostile content."""

from __future__ import annotations

import html
import re

import pytest
from django.test import Client

from brokers import publishing, topics
from brokers.record import RAW, NewRecord
from messaging_site.console import record_pages

ROW = re.compile(r'id="record-(\d+)-(\d+)"')
NEXT = re.compile(r'<a class="button button-small" href="(\?[^"]*)" rel="next">')


def rows(page: str) -> list[tuple[int, int]]:
    """Partition and offset of each row, in order."""
    return [(int(partition), int(offset)) for partition, offset in ROW.findall(page)]


def walk(client: Client, path: str, query: str) -> list[tuple[int, int]]:
    """All rows of a listing, page after page."""
    seen: list[tuple[int, int]] = []
    following: str | None = query
    while following is not None:
        page = client.get(path + following).content.decode()
        seen += rows(page)
        match = NEXT.search(page)
        following = html.unescape(match[1]) if match else None
        assert len(seen) <= 5000, "pages go round in circles"
    return seen


@pytest.fixture
def flights(transactional_db: None) -> list[tuple[int, int, int]]:
    """Timestamp, partition and offset of 300 records over three partitions."""
    topics.create("flights", partitions=3)
    records = [{"value": n, "partition": n % 3, "timestamp": 1_000_000 + n} for n in range(300)]
    placed = publishing.publish_many("flights", records)
    return [(1_000_000 + n, where.partition, where.offset or 0) for n, where in enumerate(placed)]


def test_newest_and_oldest_first_lead_through_every_record_once(
    admin: Client, flights: list[tuple[int, int, int]]
) -> None:
    in_time = [(partition, offset) for _, partition, offset in flights]
    assert walk(admin, "/admin/topics/flights/", "?start=earliest") == in_time
    assert walk(admin, "/admin/topics/flights/", "?start=latest") == in_time[::-1]


def test_one_partition_alone(admin: Client, flights: list[tuple[int, int, int]]) -> None:
    assert walk(admin, "/admin/topics/flights/", "?start=earliest&partition=1") == [(1, n) for n in range(100)]
    assert walk(admin, "/admin/topics/flights/", "?partition=1") == [(1, n) for n in range(99, -1, -1)]


def test_from_an_offset(admin: Client, flights: list[tuple[int, int, int]]) -> None:
    assert walk(admin, "/admin/topics/flights/", "?start=offset&offset=98&partition=2") == [(2, 98), (2, 99)]
    page = admin.get("/admin/topics/flights/?start=offset&offset=5000").content.decode()
    assert "No records in this range" in page
    assert "holds 0 to 99" in page


def test_from_a_time(admin: Client, flights: list[tuple[int, int, int]]) -> None:
    listed = walk(admin, "/admin/topics/flights/", "?start=time&time=1970-01-01T00:16:40.290")
    assert listed == [(partition, offset) for at, partition, offset in flights if at >= 1_000_290]


@pytest.mark.parametrize(
    "query",
    [
        "start=offset",
        "start=offset&offset=-1",
        "start=offset&offset=9223372036854775808",
        "start=offset&offset=abc",
        "start=time&time=never",
        "start=sideways",
        "partition=7",
        "partition=%00",
    ],
)
def test_a_faulty_range_is_explained(query: str, admin: Client, orders: str) -> None:
    response = admin.get(f"/admin/topics/orders/?{query}")
    assert response.status_code == 422
    assert "_error" in response.content.decode()


@pytest.mark.parametrize(
    "query",
    [
        "at=nonsense",
        "at=0:99999999999999999999",
        "at=9:1",
        "at=0:1,",
        "open=x",
        "open=0:9999",
        "open=77:0",
        "open=0:0&view=wide",
        "at=0:9223372036854775807",
    ],
)
def test_odd_addresses_give_a_page(query: str, admin: Client, orders: str) -> None:
    assert admin.get(f"/admin/topics/orders/?{query}").status_code == 200


def test_records_larger_than_a_fetch_are_all_listed(admin: Client) -> None:
    topics.create("large", partitions=1, max_record_bytes=2_000_000)
    for number in range(12):
        publishing.publish("large", bytes([number]) * 1_500_000)
    assert walk(admin, "/admin/topics/large/", "?start=latest") == [(0, n) for n in range(11, -1, -1)]
    assert walk(admin, "/admin/topics/large/", "?start=earliest") == [(0, n) for n in range(12)]


def test_an_empty_topic_offers_to_publish(admin: Client) -> None:
    topics.create("empty")
    page = admin.get("/admin/topics/empty/").content.decode()
    assert "holds no records" in page
    assert "/admin/topics/empty/publish/" in page


def test_the_cursor_is_read_strictly() -> None:
    assert record_pages.read_cursor("0:12,3:4") == {0: 12, 3: 4}
    for text in ("", "0", "0:1,", "a:1", "0:-1", "0:1 ", "\u0663:1"):
        assert record_pages.read_cursor(text) is None


def test_a_record_opens_beside_the_list_and_on_its_own_page(admin: Client, orders: str) -> None:
    beside = admin.get("/admin/topics/orders/?open=0:0").content.decode()
    assert 'aria-current="true"' in beside
    for page in (beside, admin.get("/admin/topics/orders/records/0/0/").content.decode()):
        assert "1970-01-01 00:00:01.000 UTC" in page
        assert "<dt>source</dt><dd>web</dd>" in page
        assert '<span class="number">1</span>' in page


def test_records_that_are_not_there_say_why(admin: Client, orders: str) -> None:
    late = admin.get("/admin/topics/orders/records/0/7/")
    assert late.status_code == 404
    assert "the next one gets 2" in late.content.decode()
    assert admin.get("/admin/topics/orders/records/5/0/").status_code == 404
    assert admin.get("/admin/topics/orders/records/0/9223372036854775808/").status_code == 404


HOSTILE = (
    b"<script>alert(1)</script>",
    b"<img src=x onerror=alert(1)>",
    b"</textarea></pre><script>alert(1)</script>",
    b"{% widthratio 7919 1 7907 %}{% debug %}",
    b"javascript:alert(1)",
    "\u202egnp.exe \u200b\u2066\x1b[31m\r\n\x00\x85".encode(),
    b"\xff\xfe\x00",
    b'"' * 70_000,
    b"[" * 65_537,
)


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("view", ["tree", "raw", "hex"])
def test_hostile_content_is_shown_as_text(value: bytes, view: str, admin: Client) -> None:
    topics.create("hostile", partitions=1)
    name = value[:200].decode("utf-8", "replace")
    publishing.publish_many("hostile", [NewRecord(value[:200], value, RAW, {name: name}, 0, None)])
    for path in (
        f"/admin/topics/hostile/records/0/0/?view={view}",
        f"/admin/topics/hostile/?open=0:0&view={view}",
        "/admin/topics/hostile/publish/?copy=0:0",
    ):
        response = admin.get(path)
        assert response.status_code == 200
        page = response.content.decode()
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert 'href="javascript' not in page
        assert str(7919 * 7907) not in page


def test_characters_that_cannot_be_seen_are_drawn(admin: Client) -> None:
    topics.create("bidi", partitions=1)
    publishing.publish("bidi", "\u202eabc", key="\u202ekey", headers={"h": "\u200b"})
    page = admin.get("/admin/topics/bidi/?open=0:0").content.decode()
    assert "\u202e" not in page
    assert "\u200b" not in page
    assert page.count("U+202E") >= 4


def test_a_long_value_is_cut_and_says_so(admin: Client) -> None:
    topics.create("long", partitions=1)
    publishing.publish("long", b"x" * 200_000)
    response = admin.get("/admin/topics/long/records/0/0/")
    assert "131 KiB are not shown" in response.content.decode() or "are not shown" in response.content.decode()
    assert len(response.content) < 100_000


def test_a_download_is_the_value_and_opens_nowhere(admin: Client) -> None:
    topics.create("files", partitions=1)
    publishing.publish("files", b"<html><script>alert(1)</script>")
    response = admin.get("/admin/topics/files/records/0/0/value")
    assert response.content == b"<html><script>alert(1)</script>"
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"] == 'attachment; filename="files-0-0.bin"'
    assert response["X-Content-Type-Options"] == "nosniff"
