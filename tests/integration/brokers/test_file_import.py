"""Importing files into topics: what becomes of each line, and that no interruption loses or doubles a record."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from brokers import topic_log, topics
from brokers.errors import TopicNotFound, Unavailable
from brokers.file_import import ImportUnderWay, RunningImport, UnusableFile
from brokers.models import FileImport
from brokers.record import Record
from brokers.record_files import BadLine
from brokers.topics import TopicInfo, lookup

pytestmark = pytest.mark.django_db(transaction=True)

TOPIC = "cities"


@pytest.fixture
def topic() -> str:
    topics.create(TOPIC, partitions=1)
    return TOPIC


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def numbered(path: Path, count: int) -> Path:
    """A CSV file of `count` records."""
    lines = "".join(f"k{number % 7},{number}\n" for number in range(count))
    return write(path, f"key,number\n{lines}".encode())


def run(path: Path, key: str | None = None, *, again: bool = False, chunks: int | None = None) -> RunningImport:
    """Imports the file, or only some chunks of it, as if it were interrupted then."""
    with RunningImport(TOPIC, path, key, again=again) as running:
        for number, _ in enumerate(running.run(), 1):
            if number == chunks:
                break
    return running


def stored() -> list[Record]:
    """All records of the topic, partition by partition."""
    info = lookup(TOPIC)
    found: list[Record] = []
    for partition in range(len(info.partition_ids)):
        while records := topic_log.read(
            info, partition, len([r for r in found if r.partition == partition]), 10_000
        ).records:
            found.extend(records)
    return found


def values() -> list[Any]:
    return [record.value for record in stored()]


def fault(path: Path, key: str | None = None) -> str:
    with pytest.raises(BadLine) as caught:
        run(path, key)
    return caught.value.detail


# -- CSV ----------------------------------------------------------------------------------------------------------


def test_each_csv_row_becomes_an_object_of_texts_keyed_by_its_column(topic: str, tmp_path: Path) -> None:
    run(write(tmp_path / "a.csv", "name,country\nKöln,DE\n,FR\n".encode()), "name")

    assert [(record.key, record.value) for record in stored()] == [
        ("Köln", {"name": "Köln", "country": "DE"}),
        (None, {"name": "", "country": "FR"}),
    ]


def test_quotes_newlines_blank_lines_and_a_byte_order_mark_are_understood(topic: str, tmp_path: Path) -> None:
    run(write(tmp_path / "a.csv", b'\xef\xbb\xbfa,b\r\n1,"x\r\ny ""z"""\r\n\r\n2,\r\n'), "a")

    assert values() == [{"a": "1", "b": 'x\r\ny "z"'}, {"a": "2", "b": ""}]


def test_a_file_with_a_header_alone_publishes_nothing_and_is_finished(topic: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"a,b\n")

    assert run(path).finished_at is None
    assert run(path).finished_at is not None
    assert values() == []


@pytest.mark.parametrize(
    ("content", "detail", "before"),
    [
        (b"", "line 1: is missing or blank: a CSV file begins with the names of its columns", 0),
        (b"\n\n", "line 1: is missing or blank: a CSV file begins with the names of its columns", 0),
        (b"a,a\n1,2\n", "line 1: names the column 'a' twice", 0),
        (b"b,c\n1,2\n", "line 1: names no column 'a' for --key; there are b, c", 0),
        (b"a,b\n1,2\n3\n", "line 3: does not have the 2 columns of the first line, but 1", 1),
        (b'a,b\n1,"x\ny"\n3,4,5\n', "line 4: does not have the 2 columns of the first line, but 3", 1),
        (b'a,b\n1,2\n3,"4\n5,6\n', "line 3: is not CSV: unexpected end of data", 1),
        (b'a,b\n1,"2"3\n', "line 2: is not CSV: ',' expected after '\"'", 0),
        (b"a,b\n1,2\n\xff,2\n", "line 3: is not UTF-8 at byte 0", 1),
        (b"a\n1\n" + b"x" * 2_000_000, "line 3: the record has 4000008 bytes; cities takes 1048576", 1),
        (b"a\n1\n" + b"x" * 9_000_000, "line 3: is longer than 8389632 bytes", 1),
        (b"a\n1\n" + b"x" * 9_000, "line 3: the key has 9000 bytes; 8192 are allowed", 1),
    ],
)
def test_a_bad_csv_line_stops_the_import_after_all_before_it(
    topic: str, tmp_path: Path, content: bytes, detail: str, before: int
) -> None:
    path = write(tmp_path / "a.csv", content)

    assert fault(path, "a") == detail
    assert len(values()) == before
    assert fault(path, "a") == detail, "and a second run says the same"
    assert len(values()) == before, "without publishing anything twice"


# -- NDJSON -------------------------------------------------------------------------------------------------------


def test_json_lines_are_kept_as_the_bytes_that_came(topic: str, tmp_path: Path) -> None:
    run(write(tmp_path / "a.ndjson", b'{"n": 1.10,  "k":"\\u00e9"}\r\n\n"text"\n 7 \nnull'))

    assert [record.value_bytes for record in stored()] == [b'{"n": 1.10,  "k":"\\u00e9"}', b'"text"', b"7", None]


def test_the_key_is_a_member_of_the_object(topic: str, tmp_path: Path) -> None:
    run(write(tmp_path / "a.jsonl", b'{"k":"x"}\n{"k":7}\n{"k":null}\n{"k":""}\n'), "k")

    assert [record.key for record in stored()] == ["x", "7", None, None]


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b"{", "is not JSON: Input data was truncated"),
        (b"{} {}", "is not JSON: JSON is malformed: trailing characters (byte 4)"),
        (b"[1]", "is no object, and --key 'k' names a member of one"),
        (b'{"j":1}', "the object has no member 'k' for --key; null says that there is no key"),
        (b'{"k":[]}', "the member 'k' for --key is neither text nor a whole number"),
        (b'{"k":true}', "the member 'k' for --key is neither text nor a whole number"),
        (b'{"k":1.5}', "the member 'k' for --key is neither text nor a whole number"),
        (b'{"k":"\\ud800"}', "the escape '\\\\ud800' at byte 6 is half of a surrogate pair"),
        (b'{"k":"\xff"}', "is not UTF-8 at byte 6: invalid start byte"),
        (b'{"k":"x","a":' + b"[" * 64 + b"]" * 64 + b"}", "arrays and objects are nested deeper than 64 levels"),
        (b'{"k":"x","a":' + b"[" * 99_999, "arrays and objects are nested deeper than 64 levels"),
    ],
)
def test_a_bad_json_line_stops_the_import_after_all_before_it(
    topic: str, tmp_path: Path, line: bytes, detail: str
) -> None:
    path = write(tmp_path / "a.ndjson", b'{"k":"a"}\n\n' * 700 + line + b'\n{"k":"b"}\n')

    assert fault(path, "k") == f"line 1401: {detail}"
    assert len(values()) == 700


def test_a_number_that_no_client_could_read_back_is_refused(topic: str, tmp_path: Path) -> None:
    assert fault(write(tmp_path / "a.ndjson", b"1\n1e999\n")).startswith("line 2: ")


def test_a_compacted_topic_takes_no_record_without_a_key(tmp_path: Path) -> None:
    topics.create(TOPIC, partitions=1, cleanup_policy="compact")

    assert fault(write(tmp_path / "a.csv", b"a\n1\n")) == (
        "line 2: the record has no key, and cities is compacted: give --key"
    )


# -- files --------------------------------------------------------------------------------------------------------


def test_compressed_files_are_read(topic: str, tmp_path: Path) -> None:
    run(write(tmp_path / "a.csv.gz", gzip.compress(b"a\n1\n2\n")))
    run(write(tmp_path / "b.NDJSON.GZ", gzip.compress(b"1\n2\n")))

    assert values() == [{"a": "1"}, {"a": "2"}, 1, 2]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"a\n1\n"])
def test_a_damaged_compressed_file_says_so(topic: str, tmp_path: Path, damage: Any) -> None:
    path = write(tmp_path / "a.csv.gz", damage(gzip.compress(b"a\n" + os.urandom(50).hex().encode() * 90)))

    assert "the compressed data is damaged" in fault(path)


def test_what_is_no_readable_file_of_a_known_kind_is_refused(topic: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for name, detail in {
        "none.csv": "No such file",
        "a.txt": "neither .csv nor .ndjson",
        "pipe.csv": "no regular file",
        "folder.csv": "no regular file",
    }.items():
        with pytest.raises(UnusableFile, match=detail):
            run(tmp_path / name)


# -- interruptions ------------------------------------------------------------------------------------------------


def test_an_interrupted_import_goes_on_where_it_stopped(tmp_path: Path) -> None:
    topics.create(TOPIC, partitions=3)
    path = numbered(tmp_path / "a.csv", 4500)

    run(path, "key", chunks=2)
    assert len(values()) == 2000
    second = run(path, "key")

    assert second.resumed_after == 2000
    by_key: dict[str, list[int]] = {}
    for value in values():
        by_key.setdefault(value["key"], []).append(int(value["number"]))
    assert by_key == {f"k{n}": list(range(n, 4500, 7)) for n in range(7)}


def test_a_failing_transaction_leaves_neither_records_nor_progress(
    topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = numbered(tmp_path / "a.csv", 2500)
    append = topic_log.append

    def append_then_fail(info: TopicInfo, batches: Any) -> list[int]:
        append(info, batches)
        if len(FileImport.objects.filter(records_done__gte=2000)):
            raise Unavailable("the database went away")
        return []

    monkeypatch.setattr(topic_log, "append", append_then_fail)
    with pytest.raises(Unavailable):
        run(path)
    assert (FileImport.objects.get().records_done, len(values())) == (1000, 1000)
    monkeypatch.undo()

    assert run(path).resumed_after == 1000
    assert [int(value["number"]) for value in values()] == list(range(2500))


def test_a_finished_file_is_published_again_only_when_asked(topic: str, tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.csv", 2000)
    run(path)
    copy = write(tmp_path / "copy.csv", path.read_bytes())

    assert run(copy).finished_at is not None
    assert len(values()) == 2000
    run(copy, again=True, chunks=1)
    assert run(copy, again=True).resumed_after == 1000, "an unfinished repetition goes on"
    assert len(values()) == 4000


def test_imports_are_told_apart_by_content_key_and_topic(topic: str, tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.csv", 10)
    run(path)
    run(path, "key")
    run(write(path, path.read_bytes() + b"k,10\n"))
    assert len(values()) == 31

    topics.delete(TOPIC)
    topics.create(TOPIC, partitions=1)
    run(path)
    assert len(values()) == 11
    assert FileImport.objects.count() == 1, "what belonged to the deleted topic is forgotten"


def test_a_second_import_of_the_same_file_is_refused_while_one_is_under_way(topic: str, tmp_path: Path) -> None:
    path = numbered(tmp_path / "a.csv", 3000)
    errors: list[Exception] = []

    def second() -> None:
        try:
            run(path)
        except ImportUnderWay as error:
            errors.append(error)
        finally:
            connections.close_all()

    with RunningImport(TOPIC, path) as first:
        progress = first.run()
        next(progress)
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        for _ in progress:
            pass

    assert [str(error) for error in errors] == ["an import of a.csv into cities is under way"]
    assert [int(value["number"]) for value in values()] == list(range(3000))


def test_a_topic_deleted_meanwhile_ends_the_import(topic: str, tmp_path: Path) -> None:
    with RunningImport(TOPIC, numbered(tmp_path / "a.csv", 3000)) as running:
        progress = running.run()
        next(progress)
        topics.delete(TOPIC)
        with pytest.raises(TopicNotFound):
            next(progress)


def test_progress_tells_records_and_bytes(topic: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.ndjson", b"".join(json.dumps({"n": n}).encode() + b"\n" for n in range(2500)))
    with RunningImport(TOPIC, path) as running:
        seen = list(running.run())

    assert [state.records for state in seen] == [1000, 2000, 2500]
    assert seen[-1].bytes_read == seen[-1].bytes_total == path.stat().st_size
