"""Two texts side by side: nothing is lost, equal parts far from changes are folded, and long texts are left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from messaging_site.console import text_diff


def test_a_changed_line_stands_beside_its_successor() -> None:
    found = text_diff.compare('{\n  "a": 1\n}', '{\n  "a": 2,\n  "b": 3\n}')
    assert found is not None
    assert [(line.kind, line.before, line.after) for line in found.lines] == [
        ("same", "{", "{"),
        ("changed", '  "a": 1', '  "a": 2,'),
        ("added", "", '  "b": 3'),
        ("same", "}", "}"),
    ]
    assert (found.removed, found.added) == (1, 2)


def test_equal_texts_do_not_differ() -> None:
    found = text_diff.compare("a\nb", "a\nb")
    assert found is not None
    assert not found.differs


def test_equal_lines_far_from_changes_are_folded() -> None:
    before = "\n".join(str(number) for number in range(100))
    found = text_diff.compare(before, before.replace("50", "fifty"))
    assert found is not None
    assert [line.hidden for line in found.lines if line.kind == "gap"] == [47, 46]
    assert len(found.lines) == 2 + 2 * text_diff.CONTEXT + 1


def test_texts_that_are_too_long_are_not_compared() -> None:
    assert text_diff.compare("\n" * text_diff.MAX_LINES, "") is None


lines = st.lists(st.sampled_from(["a", "b", "c", "", "d d"]), min_size=1, max_size=60).map("\n".join)


@given(lines, lines)
def test_both_texts_can_be_read_from_the_rows(before: str, after: str) -> None:
    found = text_diff.compare(before, after)
    assert found is not None
    hidden = sum(line.hidden for line in found.lines)
    left = [line for line in found.lines if line.before_number is not None]
    right = [line for line in found.lines if line.after_number is not None]
    assert len(left) + hidden == before.count("\n") + 1
    assert len(right) + hidden == after.count("\n") + 1
    for line in left:
        assert before.split("\n")[(line.before_number or 0) - 1] == line.before
    for line in right:
        assert after.split("\n")[(line.after_number or 0) - 1] == line.after
    assert found.differs == (before != after)
