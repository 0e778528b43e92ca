"""Publishing by hand: what is typed is what is stored, and what is wrong is said at its field."""

from __future__ import annotations

import pytest
from django.test import Client

from brokers import topic_log
from brokers.record import JSON, RAW, Record

PATH = "/admin/topics/orders/publish/"


def newest(partition: int) -> Record:
    """The last record of a partition of `orders`."""
    records = topic_log.fetch("orders", partition, 0).records
    return records[-1]


def post(client: Client, **form: str) -> str:
    """Sends the form, expects it to be taken, and gives the page that follows."""
    response = client.post(PATH, {"kind": "json", "partition": "0"} | form, follow=True)
    assert response.redirect_chain
    return response.content.decode()


def test_json_is_stored_as_it_was_typed(admin: Client, orders: str) -> None:
    text = '{ "big": 12345678901234567890123, "one": 1.0,\n "name": "\\u00e9" }'
    page = post(
        admin,
        payload=text.replace("\n", "\r\n"),
        key="k",
        headers="a: 1\r\nb: two: 2",
        timestamp="2013-01-01T10:00",
    )
    record = newest(0)
    assert record.value_bytes == text.encode()
    assert (record.encoding, record.key, record.timestamp) == (JSON, "k", 1_357_034_400_000)
    assert record.headers == {"a": "1", "b": "two: 2"}
    assert 'Published to partition 0, offset <a href="/admin/topics/orders/records/0/2/">2</a>.' in page


def test_text_and_tombstones(admin: Client, orders: str) -> None:
    post(admin, payload="not { json", kind="text")
    assert (newest(0).value_bytes, newest(0).encoding) == (b"not { json", RAW)
    post(admin, payload="", kind="tombstone", key="a")
    assert newest(0).value_bytes is None


def test_without_a_partition_the_key_decides(admin: Client, orders: str) -> None:
    page = post(admin, payload="1", key="a", partition="")
    assert "Published to partition" in page


@pytest.mark.parametrize(
    ("field", "form"),
    [
        ("payload", {"payload": ""}),
        ("payload", {"payload": "{"}),
        ("payload", {"payload": "NaN"}),
        ("payload", {"payload": "1e999"}),
        ("payload", {"payload": "[" * 100 + "]" * 100}),
        ("payload", {"payload": '{"a": 1, "a": 2}'}),
        ("payload", {"payload": '"\\ud800"'}),
        ("payload", {"payload": "x", "kind": "tombstone"}),
        ("payload", {"payload": "x" * 1_100_000, "kind": "text"}),
        ("kind", {"payload": "1", "kind": "xml"}),
        ("partition", {"payload": "1", "partition": "9"}),
        ("key", {"payload": "1", "key": "k" * 9000}),
        ("headers", {"payload": "1", "headers": "no colon"}),
        ("headers", {"payload": "1", "headers": "\n".join(f"h{n}: x" for n in range(65))}),
        ("timestamp", {"payload": "1", "timestamp": "tomorrow"}),
        ("timestamp", {"payload": "1", "timestamp": "9999-12-31T23:59:59-12:00"}),
    ],
)
def test_faults_are_said_at_their_field(field: str, form: dict[str, str], admin: Client, orders: str) -> None:
    response = admin.post(PATH, {"kind": "json", "partition": "0"} | form)
    assert response.status_code == 422
    assert f'id="id_{field}_error"' in response.content.decode()
    assert newest(0).offset == 1


def test_a_compacted_topic_asks_for_a_key(admin: Client, orders: str) -> None:
    from brokers import topics

    topics.alter(orders, cleanup_policy="compact")
    response = admin.post(PATH, {"kind": "json", "payload": "1"})
    assert response.status_code == 422
    assert 'id="id_key_error"' in response.content.decode()


def test_checking_and_laying_out_publish_nothing(admin: Client, orders: str) -> None:
    form = {"kind": "json", "payload": '{"a":[12345678901234567890123,1.0]}'}
    checked = admin.post(PATH, form | {"action": "check"}).content.decode()
    assert "The value is valid" in checked
    laid_out = admin.post(PATH, form | {"action": "format"}).content.decode()
    assert "12345678901234567890123,\n    1.0\n" in laid_out
    assert newest(0).offset == 1


def test_a_record_can_be_copied_into_the_form(admin: Client, orders: str) -> None:
    page = admin.get(f"{PATH}?copy=0:0").content.decode()
    assert "{&quot;n&quot;:1}" in page
    assert 'value="a"' in page
    assert "source: web" in page
