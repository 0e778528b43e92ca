"""The record on `<topic>.DLT`: where it goes, what its headers say, and that no limit is in its way."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from brokers import dead_letter_headers, dead_letters, publish, topic_log, topics
from brokers.dead_letter_topics import headers, name_for, prepare, stage
from brokers.errors import TopicNotFound
from brokers.models import DeadLetter, Topic
from brokers.record import JSON, RAW, Record
from brokers.settings import MAX_HEADER_BYTES
from tests.integration.brokers.given_up import delivery, failure, give_up
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

SPRINGS = {
    "kafka_dlt-original-partition": "1",
    "kafka_dlt-original-offset": "7",
    "kafka_dlt-original-timestamp": "1700000000000",
    "kafka_dlt-original-timestamp-type": "CreateTime",
    "kafka_dlt-exception-fqcn": "builtins.ValueError",
    "kafka_dlt-exception-message": "no plane 'N14228'",
}


def partitions(topic: str) -> int:
    topics.forget(topic)
    return len(topics.lookup(topic).partition_ids)


def records(topic: str, partition: int = 1) -> list[Record]:
    return topic_log.fetch(topic, partition, 0).records


def size(made: dict[str, str]) -> int:
    return sum(len(name.encode()) + len(text.encode()) for name, text in made.items())


# -- the topic --------------------------------------------------------------------------------------------------


def test_it_has_as_many_partitions_as_its_source_and_grows_with_it() -> None:
    source = topics.create(unique(), partitions=3).name
    prepare(source, 3)
    assert partitions(f"{source}.DLT") == 3
    topics.alter(source, partitions=5)
    prepare(source, 5)
    assert partitions(f"{source}.DLT") == 5
    prepare(source, 2)
    assert partitions(f"{source}.DLT") == 5


def test_one_that_an_operator_made_is_left_as_it_is() -> None:
    source = topics.create(unique(), partitions=3).name
    topics.create(f"{source}.DLT", partitions=4, retention_ms=1000, max_record_bytes=500)
    prepare(source, 3)
    made = Topic.objects.get(name=f"{source}.DLT")
    assert (made.retention_ms, made.max_record_bytes, partitions(made.name)) == (1000, 500, 4)


def test_nothing_is_asked_of_the_database_while_all_is_well(django_assert_num_queries: Any) -> None:
    source = topics.create(unique(), partitions=3).name
    prepare(source, 3)
    topics.lookup(f"{source}.DLT")
    with django_assert_num_queries(0):
        prepare(source, 3)


def test_another_worker_that_makes_it_first_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    source = topics.create(unique(), partitions=3).name
    name = f"{source}.DLT"
    create = topics.create

    def late(name: str, **options: Any) -> Topic:
        create(name, **options)
        return create(name, **options)

    monkeypatch.setattr(topics, "create", late)
    prepare(source, 3)
    assert partitions(name) == 3


def test_another_worker_that_lets_it_grow_further_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    source = topics.create(unique(), partitions=3).name
    name = f"{source}.DLT"
    prepare(source, 3)
    alter = topics.alter

    def late(name: str, **options: Any) -> Topic:
        alter(name, partitions=9)
        return alter(name, **options)

    monkeypatch.setattr(topics, "alter", late)
    prepare(source, 5)
    assert partitions(name) == 9


def test_a_name_that_would_be_too_long_leaves_the_operators_row_alone() -> None:
    source = topics.create("a" * 246, partitions=2).name
    assert name_for(source) is None
    assert name_for("a" * 245) == "a" * 245 + ".DLT"
    found = give_up(delivery(source))
    assert DeadLetter.objects.get(pk=found).source == source
    assert not Topic.objects.filter(name__startswith="a" * 245, name__endswith=".DLT").exists()


# -- the record -------------------------------------------------------------------------------------------------


def test_the_record_goes_to_the_same_partition_with_its_headers_and_springs() -> None:
    given = delivery(headers={"source": "test", "trace": "t-1", "x-waystation-replay-id": "4"})
    source = given.record.topic
    found = give_up(given, "attempts_exhausted")
    [record] = records(f"{source}.DLT")
    assert (record.key_bytes, record.value_bytes, record.encoding) == (b"N14228", b'{"a":1}', JSON)
    assert record.value == {"a": 1}
    expected = SPRINGS | {
        "kafka_dlt-original-topic": source,
        "kafka_dlt-original-consumer-group": given.group,
        "source": "test",
        "trace": "t-1",
        "x-waystation-reason": "attempts_exhausted",
        "x-waystation-dead-letter-id": str(found),
    }
    trace = record.headers.pop("kafka_dlt-exception-stacktrace")
    assert record.headers == expected
    assert trace.startswith("Traceback (most recent call last):")
    assert trace.endswith("builtins.ValueError: no plane 'N14228'")
    assert records(f"{source}.DLT", 0) == records(f"{source}.DLT", 2) == []


def test_it_appears_with_the_commit_and_not_before() -> None:
    given = delivery()
    dlt = f"{given.record.topic}.DLT"
    prepare(given.record.topic, 3)
    with transaction.atomic():
        stage(given, "exception", failure())
        assert records(dlt) == []
    assert len(records(dlt)) == 1
    with pytest.raises(RuntimeError), transaction.atomic():
        stage(given, "exception", failure())
        raise RuntimeError
    assert len(records(dlt)) == 1


def test_its_time_is_that_of_its_death() -> None:
    given = delivery()
    give_up(given)
    [record] = records(f"{given.record.topic}.DLT")
    assert record.timestamp > given.record.timestamp


def test_the_cause_is_named() -> None:
    failed = failure()._replace(cause_class="builtins.KeyError")
    assert headers(delivery(), "exception", failed)["kafka_dlt-exception-cause-fqcn"] == "builtins.KeyError"


def test_without_a_failure_no_exception_is_named() -> None:
    given = delivery()
    give_up(given, "worker_lost")
    [record] = records(f"{given.record.topic}.DLT")
    assert not [name for name in record.headers if "exception" in name]
    assert record.headers["x-waystation-reason"] == "worker_lost"


def test_no_limit_of_the_topic_keeps_a_record_from_it() -> None:
    source = topics.create(unique(), partitions=2).name
    topics.create(f"{source}.DLT", partitions=2, max_record_bytes=10, cleanup_policy="compact")
    big = b"x" * (8 * 1024 * 1024)
    give_up(delivery(source, key_bytes=None, value_bytes=big, encoding=RAW))
    [record] = records(f"{source}.DLT")
    assert record.value_bytes == big


def test_where_the_partition_is_not_there_yet_the_key_decides() -> None:
    source = topics.create(unique(), partitions=8).name
    topics.create(f"{source}.DLT", partitions=2)
    for key in (b"N14228", None, b""):
        given = delivery(source, partition=5, key_bytes=key)
        with transaction.atomic():
            dead_letters.give_up(given, "exception", failure())
    count = len(records(f"{source}.DLT", 0)), len(records(f"{source}.DLT", 1))
    info = topics.lookup(f"{source}.DLT")
    home = info.choose()(b"N14228", 2)
    expected = [0, 2]
    expected[home] += 1
    assert count == tuple(expected)


def test_a_topic_that_was_deleted_is_noticed_although_this_process_remembers_it() -> None:
    given = delivery()
    dlt = f"{given.record.topic}.DLT"
    prepare(given.record.topic, 3)
    remembered = topics.lookup(dlt)
    topics.delete(dlt)
    topics._cache[dlt] = (float("inf"), remembered)
    with pytest.raises(TopicNotFound), transaction.atomic():
        stage(given, "exception", failure())
    prepare(given.record.topic, 3)
    with transaction.atomic():
        stage(given, "exception", failure())
    assert len(records(dlt)) == 1


# -- a second death ---------------------------------------------------------------------------------------------


def test_a_dead_letter_topic_has_a_dead_letter_topic_of_its_own() -> None:
    given = delivery()
    source = given.record.topic
    give_up(given)
    [record] = records(f"{source}.DLT")
    again = delivery(f"{source}.DLT", group=unique("mender"))
    again.record = record
    give_up(again, "exception", failure("still not", KeyError))
    [twice] = records(f"{source}.DLT.DLT")
    assert twice.headers["kafka_dlt-original-topic"] == f"{source}.DLT"
    assert twice.headers["kafka_dlt-original-offset"] == "0"
    assert twice.headers["kafka_dlt-original-consumer-group"] == again.group
    assert twice.headers["kafka_dlt-exception-fqcn"] == "builtins.KeyError"
    assert twice.headers["source"] == "test"
    assert partitions(f"{source}.DLT.DLT") == 3


def test_a_second_death_replaces_what_was_said_of_the_first() -> None:
    given = delivery()
    first = headers(given, "exception", failure(), 5)
    given.record.headers = first
    second = headers(given, "worker_lost", None, 6)
    assert not [name for name in second if "exception" in name]
    assert second["x-waystation-dead-letter-id"] == "6"
    assert len(second) == 9


# -- limits of headers ------------------------------------------------------------------------------------------


def test_the_stack_trace_is_cut_so_that_the_headers_stay_within_their_limit() -> None:
    for own in (0, 1000, 9000, 15_000, 15_600):
        given = delivery(headers={"h": "x" * own} if own else {})
        failed = failure()._replace(stacktrace="\N{CAT FACE}" * 8000, message="m" * 8000)
        made = headers(given, "exception", failed, 2**62)
        assert size(made) <= MAX_HEADER_BYTES
        assert made.get("h", "") == "x" * own
        if own <= 9000:
            assert made["kafka_dlt-exception-stacktrace"].endswith(" [...]")
            assert len(made["kafka_dlt-exception-message"]) == 1024
        else:
            assert "kafka_dlt-exception-stacktrace" not in made


def test_headers_of_the_record_are_kept_even_when_they_leave_no_room() -> None:
    own = {f"h{number}": "x" * 250 for number in range(64)}
    given = delivery(headers=own)
    give_up(given)
    [record] = records(f"{given.record.topic}.DLT")
    assert own.items() <= record.headers.items()
    assert record.headers["kafka_dlt-original-offset"] == "7"
    assert "kafka_dlt-exception-message" not in record.headers


def test_the_record_can_be_published_again_as_it_came() -> None:
    given = delivery()
    give_up(given)
    [record] = records(f"{given.record.topic}.DLT")
    publish(given.record.topic, record.value, key=record.key, headers=record.headers)


def test_the_longest_class_name_fits() -> None:
    failed = failure()._replace(exception_class="c" * 300, cause_class="d" * 300)
    assert headers(delivery(), "exception", failed)["kafka_dlt-exception-fqcn"] == "c" * 300
    assert dead_letter_headers.without_own({"X-Waystation-Revision": "2", "x-other": "1"}) == {"x-other": "1"}
