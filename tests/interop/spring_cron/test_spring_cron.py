"""Our answers against those of Spring's `CronExpression`, on random expressions and instants in ten zones.

Needs Java 17 and Maven, which gets Spring from its registry; skipped with the reason where they are missing. Left out
are the cases in which Spring is wrong, which `scheduling.cron` names.
"""

from __future__ import annotations

import random
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from scheduling.cron.expression import parse
from scheduling.cron.fields import MONTHS, WEEKDAYS
from scheduling.cron.zoned import CronSchedule
from scheduling.errors import InvalidCron
from tests.interop.maven import compiled

pytestmark = pytest.mark.timeout(300)

PROJECT = Path(__file__).parent
RUN_SECONDS = 60.0
CASES = 10_000
FIRINGS = 4
ZONES = (
    "Africa/Cairo",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Santiago",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Australia/Sydney",
    "Europe/Amsterdam",
    "Europe/Dublin",
    "UTC",
)

Question = tuple[str, str, int]


@pytest.fixture(scope="module")
def program() -> Path:
    """Where the classes and libraries are."""
    return compiled(PROJECT, "Spring")


def springs_answers(program: Path, questions: list[Question]) -> list[str]:
    text = "".join(f"{expression}\t{zone}\t{second}\n" for expression, zone, second in questions)
    java = ["java", "-XX:+UseSerialGC", "-cp", f"{program}/classes:{program}/libraries/*", "interop.SpringCron"]
    done = subprocess.run(java, input=text, capture_output=True, text=True, timeout=RUN_SECONDS, check=True)
    return done.stdout.splitlines()


def our_answer(question: Question) -> str:
    expression, zone, second = question
    try:
        schedule = CronSchedule(expression, ZoneInfo(zone))
    except InvalidCron:
        return "invalid"
    found: list[str] = []
    moment: datetime | None = datetime.fromtimestamp(second, UTC)
    for _ in range(FIRINGS):
        assert moment is not None
        moment = schedule.next(moment)
        if moment is None:
            return "".join(f"{each} " for each in found) + "never"
        found.append(str(int(moment.timestamp())))
    return " ".join(found)


class Random:
    """Expressions and instants, the same in each run."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def question(self) -> Question:
        zone = self._random.choice(ZONES)
        return self.expression(), zone, self._instant(ZoneInfo(zone))

    def expression(self) -> str:
        choose = self._random.choice
        return " ".join(
            (
                choose(["0", "0", "*/30", self._field(0, 59)]),
                choose(["0", "30", "*/15", self._field(0, 59)]),
                choose(["*", "2", "*/2", "0-3", self._field(0, 23)]),
                choose(["*", "?", "*", self._day(), self._listed(self._day)]),
                choose(["*", "*", self._field(1, 12), choose(["JAN", "mar-OCT", "FEB,JUN"])]),
                choose(["*", "?", "*", self._weekday(), self._listed(self._weekday)]),
            )
        )

    def broken(self) -> str:
        """An expression with one character changed."""
        text = self.expression()
        place = self._random.randrange(len(text))
        return text[:place] + self._random.choice("0123456789*/,-LW#") + text[place + self._random.randrange(2) :]

    def _field(self, low: int, high: int) -> str:
        def one() -> str:
            first, last = sorted((self._random.randint(low, high), self._random.randint(low, high)))
            step = self._random.randint(1, high)
            return self._random.choice(
                [str(first), f"{first}-{last}", f"*/{step}", f"{first}/{step}", f"{first}-{last}/{step}"]
            )

        return one() if self._random.random() < 0.7 else ",".join(one() for _ in range(3))

    def _listed(self, one: object) -> str:
        assert callable(one)
        return ",".join(one() for _ in range(self._random.randint(2, 3)))

    def _day(self) -> str:
        day = self._random.randint(1, 31)
        return self._random.choice(["L", "LW", f"L-{self._random.randint(1, 27)}", f"{day}W", str(day), f"{day}-31"])

    def _weekday(self) -> str:
        day, nth = self._random.randint(0, 7), self._random.randint(1, 5)
        name = self._random.choice(["MON", "wed", "FRI", "SUN"])
        return self._random.choice(
            [f"{day}L", f"{day}#{nth}", f"{name}L", f"{name}#{nth}", name, str(day), "MON-FRI", f"{day}/2"]
        )

    def _instant(self, zone: ZoneInfo) -> int:
        """Half of them within two days of a change of the clock."""
        start = datetime(1995, 1, 1, tzinfo=UTC) + timedelta(seconds=self._random.randrange(40 * 365 * 86400))
        if self._random.random() < 0.5:
            offset = start.astimezone(zone).utcoffset()
            for days in range(1, 366):
                later = start + timedelta(days=days)
                if later.astimezone(zone).utcoffset() != offset:
                    return int(later.timestamp()) - self._random.randrange(2 * 86400)
        return int(start.timestamp())


def is_springs_fault(question: Question) -> bool:
    """`1W` in a list, or asked from the 2nd of a month."""
    expression, zone, second = question
    days = expression.split()[3].split(",")
    return "1W" in days and (len(days) > 1 or datetime.fromtimestamp(second, ZoneInfo(zone)).day == 2)


def test_next_firings_are_springs(program: Path) -> None:
    source = Random(6)
    questions: list[Question] = []
    while len(questions) < CASES:
        question = source.question()
        if not is_springs_fault(question):
            questions.append(question)
    theirs = springs_answers(program, questions)
    assert len(theirs) == CASES
    assert theirs.count("invalid") == 0
    assert sum("never" not in answer for answer in theirs) > CASES * 0.8
    different = [
        (question, answer, ours)
        for question, answer in zip(questions, theirs, strict=True)
        if (ours := our_answer(question)) != answer
    ]
    assert different == []


_NAMES = "|".join(MONTHS + WEEKDAYS)
_READ_BY_ACCIDENT = re.compile(rf"[0-9]({_NAMES})|({_NAMES})[0-9]", re.IGNORECASE)
"""Spring writes a name's number into the text before it reads that: `JAN2` is December."""


def test_what_spring_refuses_is_refused_and_nothing_else(program: Path) -> None:
    source = Random(7)
    texts = [text for _ in range(3000) if not _READ_BY_ACCIDENT.search(text := source.broken())]
    theirs = springs_answers(program, [(text, "UTC", 0) for text in texts])
    different = []
    for text, answer in zip(texts, theirs, strict=True):
        try:
            parse(text)
        except InvalidCron:
            ours = False
        else:
            ours = True
        if ours != (answer != "invalid"):
            different.append((text, answer))
    assert different == []
    assert 500 < theirs.count("invalid") < 2500
