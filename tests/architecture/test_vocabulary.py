"""Words and constructions that the product does without, each exception with its reason."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("brokers", "messaging_site", "realtime", "scheduling", "examples")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

MAY_SLEEP = {
    "brokers/wakeup.py": "the announcing thread gathers hints, and waits before it tries Redis again",
    "realtime/announcing.py": "the announcing thread waits before it tries Redis again",
    "messaging_site/processes.py": "the supervisor polls processes for their end",
    "messaging_site/postgres_cluster.py": "polls for the end of processes that are not its children",
}

MAY_CATCH_ALL = {
    "brokers/rest/serving.py": "the outermost handler logs what nobody foresaw and answers 500",
    "brokers/coalescer.py": "whatever happens to an append, each request in it must be answered",
    "brokers/listeners/delivery.py": "whatever a handler raises is the record's failure, and no thread dies of it",
    "realtime/broadcasts.py": "what goes wrong with one broadcast must not end the hearing of all",
    "realtime/stomp/outbox.py": "a fault behind a SEND that nobody waits for: the client hears of it",
    "realtime/invoking.py": "whatever a mapping raises is logged, and no connection dies of it",
    "scheduling/worker/performing.py": "whatever a function raises is its run's failure",
    "scheduling/executors/registry.py": "what the application's handler of failures raises is logged, with the failure",
    "scheduling/executors/pool.py": "whatever a task raises is its future's, and no thread dies of it",
    "brokers/failure.py": "an exception's own code may raise anything when it is described",
}

SYNONYMS = {
    r"\bsubscriber group\b": "consumer group",
    r"\bconsumer_lag\b": "lag",
    r"\bcommitted position\b": "committed offset",
    r"\bhigh.?water.?mark\b": "latest offset",
    r"\blow.?water.?mark\b": "earliest offset",
    r"\bexactly.once delivery\b": "effects exactly once inside this database",
    r"\bself.healing\b": "what it does, in plain words",
    r"\bzero loss\b": "what is promised, in plain words",
    r"\b(TODO|FIXME|XXX)\b": "the work itself, or nothing",
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield node


def called(node: ast.Call) -> str:
    return ast.unparse(node.func)


def test_nobody_sleeps_where_a_condition_could_be_waited_for() -> None:
    for path in MODULES:
        sleeps = [node.lineno for node in calls(path) if called(node) in ("time.sleep", "sleep")]
        assert not sleeps or name(path) in MAY_SLEEP, f"{name(path)} sleeps in line {sleeps}"


def test_every_queue_has_a_bound() -> None:
    for path, node in ((module, node) for module in MODULES for node in calls(module)):
        home, _, kind = called(node).rpartition(".")
        if home not in ("", "asyncio", "collections", "multiprocessing", "queue"):
            continue
        if any(keyword.arg == "name" for keyword in node.keywords):
            continue  # the model of a queue, and none of the language's
        if kind in ("Queue", "LifoQueue", "PriorityQueue"):
            bounded = bool(node.args) or any(keyword.arg == "maxsize" for keyword in node.keywords)
        elif kind == "deque":
            bounded = len(node.args) > 1 or any(keyword.arg == "maxlen" for keyword in node.keywords)
        else:
            bounded = kind not in ("SimpleQueue",)
        assert bounded, f"{name(path)}, line {node.lineno}: {ast.unparse(node)} has no bound"


def test_no_error_is_caught_that_nobody_thought_of() -> None:
    for path, node in ((module, node) for module in MODULES for node in ast.walk(tree(module))):
        if not isinstance(node, ast.ExceptHandler) or name(path) in MAY_CATCH_ALL:
            continue
        caught = "everything" if node.type is None else ast.unparse(node.type)
        ends_by_raising = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        broad = caught in ("everything", "Exception", "BaseException")
        assert not broad or ends_by_raising, f"{name(path)}, line {node.lineno} catches {caught}"


def test_one_thing_has_one_name() -> None:
    for path, (word, instead) in product(MODULES, SYNONYMS.items()):
        text = path.read_text(encoding="utf-8")
        found = re.search(word, text, re.IGNORECASE if word.islower() else 0)
        assert not found, f"{name(path)} says {found and found[0]!r}; say: {instead}"


@pytest.mark.parametrize("listed", [MAY_SLEEP, MAY_CATCH_ALL])
def test_exceptions_are_for_modules_that_exist(listed: dict[str, str]) -> None:
    assert [path for path in listed if not (ROOT / path).exists()] == []
