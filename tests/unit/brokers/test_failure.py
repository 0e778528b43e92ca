"""What is kept of an exception: never an error of its own, always storable, within its limits."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
from types import ModuleType
from typing import Any, NoReturn

import asgiref.sync
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers import failure
from brokers.failure import MAX_FRAMES, MAX_MESSAGE_BYTES, MAX_STACKTRACE_BYTES, Failure, class_name, describe, storable


def raised(error: BaseException) -> BaseException:
    """The exception with a traceback through this module."""
    try:
        raise error
    except BaseException as caught:
        return caught


def check(found: Failure) -> Failure:
    """What holds of every failure."""
    texts = [found.exception_class, found.message, found.stacktrace, found.cause_class]
    texts += [part for frame in found.frames for part in (frame.file, frame.module, frame.function)]
    for text in texts:
        assert type(text) is str
        assert "\0" not in text
        text.encode()
    assert len(found.exception_class) <= 300
    assert len(found.message.encode()) <= MAX_MESSAGE_BYTES
    assert len(found.stacktrace.encode()) <= MAX_STACKTRACE_BYTES
    assert len(found.frames) <= MAX_FRAMES
    assert found.exception_class in found.stacktrace or "[...]" in found.stacktrace
    json.dumps([frame._asdict() for frame in found.frames])
    return found


def test_an_ordinary_exception() -> None:
    def charge(amount: int) -> NoReturn:
        raise ValueError(f"cannot charge {amount}")

    try:
        charge(7)
    except ValueError as error:
        found = check(describe(error))
    assert found.exception_class == "builtins.ValueError"
    assert found.message == "cannot charge 7"
    assert found.cause_class == ""
    assert [frame.function.rpartition(".")[2] for frame in found.frames] == ["test_an_ordinary_exception", "charge"]
    innermost = found.frames[-1]
    assert innermost == (__file__, charge.__code__.co_firstlineno + 1, __name__, charge.__qualname__, True)
    assert found.stacktrace.splitlines()[0] == "Traceback (most recent call last):"
    assert '    raise ValueError(f"cannot charge {amount}")' in found.stacktrace
    assert found.stacktrace.endswith("builtins.ValueError: cannot charge 7")


class OutOfStock(Exception):
    """An application's own exception."""


def test_the_class_is_named_in_full() -> None:
    class Local(Exception):
        pass

    assert class_name(KeyError) == "builtins.KeyError"
    assert class_name(OutOfStock) == f"{__name__}.OutOfStock"
    assert class_name(Local) == f"{__name__}.test_the_class_is_named_in_full.<locals>.Local"
    assert class_name(asyncio.CancelledError) == "asyncio.exceptions.CancelledError"


def test_the_chain_is_told_and_its_first_cause_first() -> None:
    try:
        try:
            try:
                raise KeyError("tail")
            except KeyError as error:
                raise OutOfStock("no such plane") from error
        except OutOfStock:
            raise RuntimeError("cannot total")  # noqa: B904
    except RuntimeError as error:
        found = check(describe(error))
    assert found.cause_class == f"{__name__}.OutOfStock"
    lines = found.stacktrace.splitlines()
    told = [
        lines.index(line)
        for line in (
            "builtins.KeyError: 'tail'",
            "The above exception was the direct cause of the following exception:",
            f"{__name__}.OutOfStock: no such plane",
            "During handling of the above exception, another exception occurred:",
            "builtins.RuntimeError: cannot total",
        )
    ]
    assert told == sorted(told)


def test_a_suppressed_context_is_no_cause() -> None:
    try:
        try:
            raise KeyError("tail")
        except KeyError:
            raise OutOfStock("no such plane") from None
    except OutOfStock as error:
        found = check(describe(error))
    assert found.cause_class == ""
    assert "KeyError" not in found.stacktrace


class Hostile(Exception):
    """Does whatever it can when it is asked."""

    def __init__(self, answer: Any) -> None:
        super().__init__("hidden")
        self.answer = answer

    def __str__(self) -> str:
        if isinstance(self.answer, BaseException) or (
            isinstance(self.answer, type) and issubclass(self.answer, BaseException)
        ):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


class Text(str):
    """A text with methods of its own."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> NoReturn:
        raise RuntimeError("not even this")

    def __len__(self) -> int:
        return -5

    def encode(self, *arguments: Any) -> NoReturn:
        raise RuntimeError("nor this")

    def __format__(self, spec: str) -> NoReturn:
        raise RuntimeError("nor that")


@pytest.mark.parametrize(
    "answer", [ValueError, KeyboardInterrupt, SystemExit, MemoryError, RecursionError, 5, b"x", None]
)
def test_a_text_that_cannot_be_had_is_said_to_be_missing(answer: Any) -> None:
    found = check(describe(raised(Hostile(answer))))
    assert found.message == f"<unprintable {__name__}.Hostile>"
    assert found.frames


def test_a_text_that_asks_for_itself_for_ever_is_missing() -> None:
    class Endless(Exception):
        def __str__(self) -> str:
            return str(self)

    assert check(describe(raised(Endless()))).message.startswith("<unprintable ")


def test_a_text_with_methods_of_its_own_is_taken_as_plain_text() -> None:
    assert check(describe(raised(Hostile(Text("sold out"))))).message == "sold out"


def test_a_hundred_megabytes_are_cut() -> None:
    found = check(describe(raised(ValueError("x" * 100_000_000))))
    assert len(found.message) == MAX_MESSAGE_BYTES
    assert found.message.endswith("x [...]")


def test_a_text_is_cut_between_characters() -> None:
    found = check(describe(raised(ValueError("\N{CAT FACE}" * 5000))))
    assert set(found.message.removesuffix(" [...]")) == {"\N{CAT FACE}"}


@pytest.mark.parametrize(
    ("text", "kept"),
    [("a\0b", "a\ufffdb"), ("half \ud83d of one", "half \ufffd of one"), ("\ud83d\ude00", "\ufffd\ufffd"), ("", "")],
)
def test_what_cannot_be_stored_is_replaced(text: str, kept: str) -> None:
    assert check(describe(raised(ValueError(text)))).message == kept


@given(st.text(st.characters(codec=None), max_size=50), st.integers(0, 60))
def test_a_storable_text_is_never_too_long_and_never_changed_without_need(text: str, most: int) -> None:
    found = storable(text, most)
    assert len(found.encode()) <= most
    assert "\0" not in found
    if "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text) and len(text.encode()) <= most:
        assert found == text


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        concurrent.futures.CancelledError(),
    ],
)
def test_what_is_no_ordinary_exception_is_described_as_well(error: BaseException) -> None:
    assert check(describe(raised(error))).exception_class == class_name(type(error))


def test_one_that_was_never_raised_has_no_frames() -> None:
    assert check(describe(ValueError("made"))) == ("builtins.ValueError", "made", "builtins.ValueError: made", (), "")


def test_a_group_is_told_with_its_members() -> None:
    stock = raised(OutOfStock("wings"))
    assert isinstance(stock, OutOfStock)
    inner = ExceptionGroup("inner", [stock])
    found = check(describe(raised(ExceptionGroup("two went wrong", [KeyError("a"), inner]))))
    assert found.exception_class == "builtins.ExceptionGroup"
    assert "---- 2 of 2 ----" in found.stacktrace
    assert f"    {__name__}.OutOfStock: wings" in found.stacktrace
    assert found.stacktrace.index("two went wrong") < found.stacktrace.index("builtins.KeyError: 'a'")


def test_groups_without_an_end_are_cut() -> None:
    group: Exception = KeyError("deep")
    for _ in range(3000):
        group = ExceptionGroup("level", [group])
    check(describe(raised(group)))
    check(describe(raised(ExceptionGroup("wide", [ValueError("x" * 10_000)] * 5000))))


def test_a_chain_without_an_end_is_cut() -> None:
    error: BaseException = ValueError("first")
    for number in range(20_000):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following
    found = check(describe(raised(error)))
    assert found.stacktrace.count("direct cause") == 9


def test_a_chain_that_goes_round_ends() -> None:
    one, two = ValueError("one"), KeyError("two")
    one.__cause__, two.__cause__ = two, one
    assert check(describe(raised(one))).stacktrace.count("direct cause") == 1


def test_a_recursion_keeps_its_beginning_and_its_end() -> None:
    def deeper(n: int) -> int:
        return deeper(n + 1) + 1

    try:
        deeper(0)
    except RecursionError as error:
        found = check(describe(error))
    assert len(found.frames) == MAX_FRAMES
    assert found.frames[0].function == "test_a_recursion_keeps_its_beginning_and_its_end"
    assert found.frames[-1].function.endswith("deeper")
    assert "times more]" in found.stacktrace


def test_notes_are_told() -> None:
    error = ValueError("x")
    error.add_note("while totalling N14228\0")
    assert check(describe(raised(error))).stacktrace.endswith("while totalling N14228\ufffd")
    error.__notes__ = ["fine", 5]  # type: ignore[list-item]
    assert "a note that is no text" in check(describe(raised(error))).stacktrace
    error.__notes__ = 5  # type: ignore[assignment]
    check(describe(raised(error)))


@pytest.mark.parametrize(
    "attribute", ["__cause__", "__context__", "__traceback__", "__suppress_context__", "__notes__"]
)
@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_an_attribute_that_raises_costs_the_trace_and_no_more(attribute: str, kind: type[BaseException]) -> None:
    def refuse(_: object) -> NoReturn:
        raise kind("no")

    error = type("Guarded", (ValueError,), {attribute: property(refuse), "__module__": "shop"})("sold out")
    found = check(describe(error))
    assert (found.exception_class, found.message) == ("shop.Guarded", "sold out")


def test_a_class_with_a_name_of_its_own_making() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            if name in ("__qualname__", "__module__", "__name__"):
                raise RuntimeError("no name")
            return super().__getattribute__(name)

    class Nameless(Exception, metaclass=Meta):
        pass

    assert check(describe(raised(Nameless("x")))).exception_class.endswith("Nameless")
    odd = type("Odd", (Exception,), {"__module__": 5, "__qualname__": "A\0B\ud800"})
    assert check(describe(odd())).exception_class == "5.A\ufffdB\ufffd"
    long = type("L" * 5000, (Exception,), {"__module__": "m"})
    assert check(describe(long("x"))).exception_class == "m." + "L" * 298


# -- own frames -------------------------------------------------------------------------------------------------


def frame_in(module: str, file: str) -> failure.Frame:
    """The frame of a function in a module of that name and file, which raises."""
    made = ModuleType(module)
    exec(compile("def handle():\n    raise ValueError\n", file, "exec"), made.__dict__)
    try:
        made.handle()
    except ValueError as error:
        return describe(error).frames[-1]
    raise AssertionError("it did not raise")


@pytest.mark.parametrize(
    ("module", "file", "own"),
    [
        ("orders.messaging", "/srv/shop/orders/messaging.py", True),
        ("examples.flights.messaging", "/srv/waystation/examples/flights/messaging.py", True),
        ("__main__", "/srv/shop/job.py", True),
        ("brokersage.handlers", "/srv/shop/brokersage/handlers.py", True),
        ("brokers.listeners.delivery", "/srv/waystation/brokers/listeners/delivery.py", False),
        ("messaging_site.asgi", "/srv/waystation/messaging_site/asgi.py", False),
        ("django.db.models.query", "/srv/checkout/django/db/models/query.py", False),
        ("asgiref.sync", asgiref.sync.__file__, False),
        ("requests.api", "/srv/.venv/lib/python3.11/site-packages/requests/api.py", False),
        ("apt_pkg", "/usr/lib/python3/dist-packages/apt_pkg.py", False),
        ("json.decoder", json.decoder.__file__, False),
        ("importlib._bootstrap", "<frozen importlib._bootstrap>", False),
        ("orders.models", "<string>", False),
    ],
)
def test_which_frames_are_the_applications_own(module: str, file: str, own: bool) -> None:
    found = frame_in(module, file)
    assert (found.module, found.file, found.function, found.line) == (module, file, "handle", 2)
    assert found.own is own


def test_a_failure_inside_a_library_keeps_the_own_frame_that_called_it() -> None:
    try:
        json.loads("{")
    except json.JSONDecodeError as error:
        found = check(describe(error))
    assert [frame.own for frame in found.frames] == [True] + [False] * (len(found.frames) - 1)
    assert len(found.frames) > 1


def test_a_frame_whose_module_is_not_known() -> None:
    space: dict[str, Any] = {"__name__": 5}
    exec(compile("def handle():\n    raise ValueError\n", "/srv/x.py", "exec"), space)
    with pytest.raises(ValueError) as caught:
        space["handle"]()
    assert check(describe(caught.value)).frames[-1].module == ""
