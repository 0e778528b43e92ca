"""Cron expressions in English."""

from __future__ import annotations

import pytest
from hypothesis import given

from scheduling.cron.words import in_words
from scheduling.errors import InvalidCron
from tests.unit.scheduling.cron_strategies import texts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 0 8 * * *", "Every day at 08:00"),
        ("0 0 8 * * MON-FRI", "Every weekday at 08:00"),
        ("0 0 8,17 * * MON", "Every Monday at 08:00 and 17:00"),
        ("30 0 8 * * SAT,SUN", "Every Saturday and Sunday at 08:00:30"),
        ("0 0 8 * * MON-THU", "Monday to Thursday at 08:00"),
        ("0 0 8 * JAN *", "Every day in January at 08:00"),
        ("0 0 8 * 6-8 MON", "Every Monday in June to August at 08:00"),
        ("0 0 8 1 * *", "On the 1st of the month at 08:00"),
        ("0 0 8 2,13,23 * *", "On the 2nd, 13th and 23rd of the month at 08:00"),
        ("0 0 8 1-7 * MON", "On the 1st to 7th of the month, if that is a Monday, at 08:00"),
        ("0 0 8 13 * MON-FRI", "On the 13th of the month, if that is a weekday, at 08:00"),
        ("0 0 8 L * *", "On the last day of the month at 08:00"),
        ("0 0 8 L-1 * *", "On the day before the last of the month at 08:00"),
        ("0 0 8 L-3 * *", "On 3 days before the last of the month at 08:00"),
        ("0 0 8 LW 1,7 *", "On the last weekday of January and July at 08:00"),
        ("0 0 8 15W * *", "On the weekday nearest to the 15th of the month at 08:00"),
        ("0 0 8 ? * 5#2", "On the 2nd Friday of the month at 08:00"),
        ("0 0 8 ? * 0L", "On the last Sunday of the month at 08:00"),
        ("@hourly", "Every hour"),
        ("@yearly", "On the 1st of January at 00:00"),
        ("@weekly", "Every Sunday at 00:00"),
        ("* * * * * *", "Every second"),
        ("*/10 * * * * *", "Every 10 seconds"),
        ("0 * * * * *", "Every minute"),
        ("0 */5 * * * *", "Every 5 minutes"),
        ("0 */5 9-17 * * MON-FRI", "Every 5 minutes from 09:00 to 17:59, every weekday"),
        ("0 15 * * * *", "At minute 15 of every hour"),
        ("0 */7 8 * * *", "At minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56 of hour 8"),
        ("0 0 */2 * * *", "Every 2 hours"),
        ("0 0 9-17 * * *", "Every hour from 09:00 to 17:00"),
        ("15 * * * * *", "At second 15 of every minute"),
        ("*/30 0 * * * *", "Every 30 seconds of minute 0 of every hour"),
        ("0 0 0 30 2 *", "Never"),
    ],
)
def test_words(text: str, words: str) -> None:
    assert in_words(text) == words


@given(texts())
def test_every_expression_has_words(text: str) -> None:
    words = in_words(text)
    assert words
    assert words[0].isupper()
    assert not words.endswith((",", " "))
    assert "  " not in words


def test_what_is_no_expression_has_none() -> None:
    with pytest.raises(InvalidCron):
        in_words("* * *")
