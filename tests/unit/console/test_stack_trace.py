"""Stored stack traces are taken apart for display: the chain, whose frames are whose, and texts that are no trace."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from brokers.failure import describe
from messaging_site.console import stack_trace

OWN = {"file": "/srv/app/totals.py", "line": 18, "module": "totals", "function": "total", "own": True}
LIBRARY = {"file": "/x/site-packages/json/decoder.py", "line": 3, "module": "json", "function": "decode", "own": False}


def lines(*parts: str) -> str:
    return "\n".join(parts)


def test_own_frames_and_libraries_frames_come_in_runs() -> None:
    text = lines(
        "Traceback (most recent call last):",
        '  File "/srv/app/totals.py", line 18, in total',
        "    return decode(text)",
        '  File "/x/site-packages/json/decoder.py", line 3, in decode',
        '  File "/x/site-packages/json/decoder.py", line 9, in scan',
        "    raise ValueError",
        "builtins.ValueError: no JSON",
        "of two lines",
    )
    [raised] = stack_trace.chain(text, [OWN, LIBRARY])
    assert raised.message == "ValueError: no JSON\nof two lines"
    assert [(run.own, len(run.frames)) for run in raised.runs] == [(True, 1), (False, 2)]
    assert raised.folded == 2
    assert raised.innermost_own is not None
    assert raised.innermost_own.code == "return decode(text)"
    assert raised.runs[1].frames[0].short_file == "json/decoder.py"


def test_the_root_cause_comes_first_and_the_link_is_said() -> None:
    try:
        try:
            raise KeyError("tailnum")
        except KeyError as error:
            raise RuntimeError("no plane") from error
    except RuntimeError as error:
        failure = describe(error)
    found = stack_trace.chain(failure.stacktrace, [frame._asdict() for frame in failure.frames])
    assert [(raised.link, raised.message) for raised in found] == [
        ("", "KeyError: 'tailnum'"),
        ("which caused", "RuntimeError: no plane"),
    ]
    assert all(raised.innermost_own is not None for raised in found)


def test_what_was_cut_or_repeated_is_no_message() -> None:
    text = lines(
        '  File "/srv/app/totals.py", line 18, in total',
        "    total()",
        "  [the same 900 times more]",
        "[...]",
        "builtins.RecursionError: too deep",
    )
    [raised] = stack_trace.chain(text, [OWN])
    assert raised.message == "RecursionError: too deep"


def test_a_text_without_frames_is_no_trace() -> None:
    assert stack_trace.chain("went wrong", []) == []
    assert stack_trace.chain("", []) == []


@given(st.text(), st.lists(st.fixed_dictionaries({"file": st.text(), "own": st.booleans()}), max_size=3))
def test_any_text_can_be_read(text: str, frames: list[dict[str, object]]) -> None:
    for raised in stack_trace.chain(f'  File "x", line 1, in f\n{text}', frames):
        assert sum(len(run.frames) for run in raised.runs) == len(raised.frames)


def test_a_long_trace_stops_at_the_limit_of_frames() -> None:
    text = "\n".join(f'  File "f", line {number}, in g' for number in range(stack_trace.MAX_FRAMES + 50))
    assert sum(len(raised.frames) for raised in stack_trace.chain(text, [])) == stack_trace.MAX_FRAMES
