"""What went wrong in a handler, made of an exception: bounded, printable, and safe to store whatever it was.

Nothing of an exception can be relied on: its text may raise, be enormous, or hold what PostgreSQL and JSON refuse. So
each part is taken by itself, and what cannot be had is said to be missing. Pure; called where handlers are.
"""

from __future__ import annotations

import linecache
import os
import re
import sysconfig
from collections.abc import Iterator
from pathlib import PurePath
from types import TracebackType
from typing import NamedTuple

MAX_MESSAGE_BYTES = 8 * 1024
MAX_STACKTRACE_BYTES = 32 * 1024
MAX_FRAMES = 100
"""Frames kept of one traceback: the outermost few and the innermost."""
CUT = " [...]"
"""Ends a text that was longer."""

_OUTERMOST = 20
_CHAIN = 10
"""Exceptions of a chain in a stack trace."""
_MEMBERS = 8
"""Exceptions of a group in a stack trace."""
_DEPTH = 3
"""Groups within groups in a stack trace."""
_MESSAGE_IN_TRACE = 2 * 1024
_NAME_CHARACTERS = 300
_PLACE_CHARACTERS = 400
_SOURCE_LINE_CHARACTERS = 200

_qualname = type.__dict__["__qualname__"].__get__
_module = type.__dict__["__module__"].__get__
"""A class cannot put code of its own in the place of these."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NOT_OWN = frozenset({"brokers", "messaging_site", "realtime", "scheduling", "django", "asgiref"})
_STANDARD_LIBRARY = tuple({f"{path}{os.sep}" for path in (sysconfig.get_path("stdlib"), PurePath(os.__file__).parent)})
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_CAUSED = "The above exception was the direct cause of the following exception:"
_MEANWHILE = "During handling of the above exception, another exception occurred:"


class Frame(NamedTuple):
    """One frame of a stack trace; `own` says that it is the application's code, not a library's or ours."""

    file: str
    line: int
    module: str
    function: str
    own: bool


class Failure(NamedTuple):
    """A handler's failure. Texts hold no NUL and no half surrogates; frames are outermost first."""

    exception_class: str
    """Qualified: `builtins.KeyError`, `orders.errors.OutOfStock`."""
    message: str
    """At most 8 KiB."""
    stacktrace: str
    """At most 32 KiB, the exception's chain included."""
    frames: tuple[Frame, ...]
    cause_class: str
    """Of the exception that caused it; empty when none did."""


def describe(error: BaseException) -> Failure:
    """What is kept of an exception. Never raises, whatever the exception does when it is asked."""
    name, message = class_name(type(error)), _message(error, MAX_MESSAGE_BYTES)
    try:
        cause = _caused_by(error)[0]
        trace = _middle_cut("\n".join(_lines(error, 0)), MAX_STACKTRACE_BYTES)
        frames = tuple(_frames(error.__traceback__))
        return Failure(name, message, trace, frames, "" if cause is None else class_name(type(cause)))
    except BaseException:  # a class of exceptions may put code of its own in the place of any attribute
        return Failure(name, message, f"{name}: {message}", (), "")


def class_name(kind: type) -> str:
    """The qualified name of a class, at most 300 characters, as dead letters and retries know it."""
    name = _qualname(kind)
    try:
        name = f"{_module(kind)}.{name}"
    except AttributeError:  # it was deleted
        name = f"?.{name}"
    return storable(name, 4 * _NAME_CHARACTERS)[:_NAME_CHARACTERS]


def storable(text: str, max_bytes: int) -> str:
    """A text that PostgreSQL and JSON take, cut to so many bytes of UTF-8; what is cut says so at its end."""
    exact = _UNSTORABLE.sub("\ufffd", str.__getitem__(text, slice(max_bytes + 1)))
    if len(exact) <= max_bytes and len(exact.encode()) <= max_bytes:
        return exact
    return exact.encode()[: max(0, max_bytes - len(CUT))].decode(errors="ignore") + CUT[:max_bytes]


def _message(error: BaseException, max_bytes: int) -> str:
    try:
        return storable(str(error), max_bytes)
    except BaseException:  # its own __str__ may raise anything, SystemExit too
        return f"<unprintable {class_name(type(error))}>"


# -- the chain and its text -------------------------------------------------------------------------------------


def _caused_by(error: BaseException) -> tuple[BaseException | None, str]:
    """The exception behind one, as Python prints it, and the words between the two."""
    if error.__cause__ is not None:
        return error.__cause__, _CAUSED
    if error.__context__ is not None and not error.__suppress_context__:
        return error.__context__, _MEANWHILE
    return None, ""


def _lines(error: BaseException, depth: int) -> Iterator[str]:
    """The stack trace: the first cause first, as Python prints it."""
    chain, between, seen = [error], [""], {id(error)}
    while len(chain) < _CHAIN:
        cause, words = _caused_by(chain[-1])
        if cause is None or id(cause) in seen:
            break
        seen.add(id(cause))
        chain.append(cause)
        between.append(words)
    for index in range(len(chain) - 1, -1, -1):
        yield from _lines_of_one(chain[index], depth)
        if index:
            yield from ("", between[index], "")


def _lines_of_one(error: BaseException, depth: int) -> Iterator[str]:
    indent = "  " * depth
    if error.__traceback__ is not None:
        yield f"{indent}Traceback (most recent call last):"
        yield from (indent + line for line in _lines_of_frames(error.__traceback__))
    message = _message(error, _MESSAGE_IN_TRACE)
    yield f"{indent}{class_name(type(error))}{': ' if message else ''}{message}"
    notes = getattr(error, "__notes__", None)
    for note in notes[:_MEMBERS] if isinstance(notes, list) else ():
        yield indent + (storable(note, _MESSAGE_IN_TRACE) if isinstance(note, str) else "<a note that is no text>")
    if isinstance(error, BaseExceptionGroup) and depth < _DEPTH:
        for number, member in enumerate(error.exceptions[:_MEMBERS], 1):
            yield f"{indent}  ---- {number} of {len(error.exceptions)} ----"
            yield from _lines(member, depth + 1)


def _lines_of_frames(traceback: TracebackType) -> Iterator[str]:
    last, repeated = None, 0
    for frame in _frames(traceback):
        if frame == last:
            repeated += 1
            continue
        if repeated:
            yield f"  [the same {repeated} times more]"
        last, repeated = frame, 0
        yield f'  File "{frame.file}", line {frame.line}, in {frame.function}'
        source = linecache.getline(frame.file, frame.line).strip()
        if source:
            yield f"    {storable(source, _SOURCE_LINE_CHARACTERS)}"
    if repeated:
        yield f"  [the same {repeated} times more]"


def _middle_cut(text: str, max_bytes: int) -> str:
    """A text without its middle where it is too long: how it began and how it ended say most."""
    whole = _UNSTORABLE.sub("\ufffd", text).encode()
    if len(whole) <= max_bytes:
        return whole.decode()
    mark = b"\n[...]\n"
    half = (max_bytes - len(mark)) // 2
    return (whole[:half].decode(errors="ignore") + mark.decode()) + whole[-half:].decode(errors="ignore")


# -- frames -----------------------------------------------------------------------------------------------------


def _frames(traceback: TracebackType | None) -> list[Frame]:
    outermost: list[TracebackType] = []
    rest: list[TracebackType] = []
    while traceback is not None:
        (outermost if len(outermost) < _OUTERMOST else rest).append(traceback)
        traceback = traceback.tb_next
    return [_frame(each) for each in outermost + rest[-(MAX_FRAMES - _OUTERMOST) :]]


def _frame(traceback: TracebackType) -> Frame:
    code = traceback.tb_frame.f_code
    module = traceback.tb_frame.f_globals.get("__name__")
    module = module if isinstance(module, str) else ""
    return Frame(
        storable(code.co_filename, _PLACE_CHARACTERS),
        traceback.tb_lineno or 0,
        storable(module, _PLACE_CHARACTERS),
        storable(code.co_qualname, _PLACE_CHARACTERS),
        _is_own(code.co_filename, module),
    )


def _is_own(file: str, module: str) -> bool:
    if file.startswith("<") or module.partition(".")[0] in _NOT_OWN:
        return False
    return _INSTALLED.isdisjoint(PurePath(file).parts) and not file.startswith(_STANDARD_LIBRARY)
