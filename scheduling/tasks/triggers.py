"""When a task is due: the kinds of schedules, pure.

A trigger answers the first due time and, for each due time, the one after it; the beat keeps the answers in the
database. Fixed rates and delays are Spring's (`@Scheduled`), as is the syntax of cron.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Protocol
from zoneinfo import ZoneInfo

from brokers.errors import shown
from scheduling import durations
from scheduling.cron.words import in_words
from scheduling.cron.zoned import CronSchedule
from scheduling.errors import InvalidSchedule

RUN_ONCE: Final = "run_once"
"""Due times that passed while nobody could fire them are made good by one run."""
SKIP: Final = "skip"
"""They are not made good: the task is next due when it next would be."""
MISFIRE_MS: Final = 60_000
"""How late a due time is missed, where that is not made good."""


class Trigger(Protocol):
    """A schedule."""

    @property
    def kind(self) -> str:
        """As the database and REST name it."""

    def spec(self) -> dict[str, Any]:
        """All that makes the schedule, as JSON."""

    def words(self) -> str:
        """For people: "Every 30 seconds"."""

    def first(self, now: datetime) -> datetime | None:
        """When it is due first, for a task that is new or has another schedule now."""

    def after(self, due: datetime, now: datetime) -> datetime | None:
        """The due time after `due`, which fires now; None: none, or not before the run has ended."""


@dataclass(frozen=True, slots=True)
class FixedRate:
    """Due at `first + k * period`: no drift, whatever a run takes."""

    period_ms: int
    initial_delay_ms: int = 0
    kind: str = "fixed_rate"

    def spec(self) -> dict[str, Any]:
        return {"period_ms": self.period_ms, "initial_delay_ms": self.initial_delay_ms}

    def words(self) -> str:
        return f"Every {durations.words(self.period_ms)}"

    def first(self, now: datetime) -> datetime | None:
        return now + timedelta(milliseconds=self.initial_delay_ms)

    def after(self, due: datetime, now: datetime) -> datetime | None:
        period = timedelta(milliseconds=self.period_ms)
        behind = max(now - due, timedelta()) // period
        return due + (behind + 1) * period


@dataclass(frozen=True, slots=True)
class FixedDelay:
    """Due a while after the end of the run before."""

    delay_ms: int
    initial_delay_ms: int = 0
    kind: str = "fixed_delay"

    def spec(self) -> dict[str, Any]:
        return {"delay_ms": self.delay_ms, "initial_delay_ms": self.initial_delay_ms}

    def words(self) -> str:
        return f"{durations.words(self.delay_ms)} after the end of each run"

    def first(self, now: datetime) -> datetime | None:
        return now + timedelta(milliseconds=self.initial_delay_ms)

    def after(self, due: datetime, now: datetime) -> datetime | None:
        return None


@dataclass(frozen=True, slots=True)
class Cron:
    """Due as a six-field expression says, by the wall clock of a zone."""

    expression: str
    zone: str = "UTC"
    kind: str = "cron"

    def schedule(self) -> CronSchedule:
        """The parsed expression. Raises `InvalidSchedule`."""
        return _parsed(self.expression, self.zone)

    def spec(self) -> dict[str, Any]:
        return {"cron": self.expression, "zone": self.zone}

    def words(self) -> str:
        return f"{in_words(self.expression)} {self.zone}"

    def first(self, now: datetime) -> datetime | None:
        return self.schedule().next(now)

    def after(self, due: datetime, now: datetime) -> datetime | None:
        return self.schedule().next(max(due, now))


@dataclass(frozen=True, slots=True)
class Once:
    """Due one time: at an instant, or a while after it was first seen."""

    delay_ms: int = 0
    at: str = ""
    """An instant, ISO 8601; empty: `delay_ms` after the first start."""
    kind: str = "once"

    def spec(self) -> dict[str, Any]:
        return {"at": self.at} if self.at else {"delay_ms": self.delay_ms}

    def words(self) -> str:
        return f"Once at {self.at}" if self.at else f"Once, {durations.words(self.delay_ms)} after the first start"

    def first(self, now: datetime) -> datetime | None:
        return datetime.fromisoformat(self.at) if self.at else now + timedelta(milliseconds=self.delay_ms)

    def after(self, due: datetime, now: datetime) -> datetime | None:
        return None


@lru_cache(maxsize=2048)
def _parsed(expression: str, zone: str) -> CronSchedule:
    return CronSchedule(expression, zone_of(zone))


def zone_of(name: str) -> ZoneInfo:
    """A zone of the tz database. Raises `InvalidSchedule`."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidSchedule(f"there is no time zone {name!r}; use a name such as Europe/Berlin") from error


def from_spec(kind: str, spec: dict[str, Any]) -> Trigger:
    """The trigger that the database keeps. Raises `InvalidSchedule` for what this release cannot read."""
    if not isinstance(spec, dict):
        raise InvalidSchedule(f"a schedule is a JSON object, not {shown(spec)}")
    match kind:
        case "fixed_rate":
            return FixedRate(_milliseconds(spec, "period_ms", least=1), _milliseconds(spec, "initial_delay_ms"))
        case "fixed_delay":
            return FixedDelay(_milliseconds(spec, "delay_ms"), _milliseconds(spec, "initial_delay_ms"))
        case "cron":
            trigger = Cron(_text(spec, "cron"), _text(spec, "zone"))
            trigger.schedule()
            return trigger
        case "once" if "at" in spec:
            return Once(at=_text(spec, "at"))
        case "once":
            return Once(_milliseconds(spec, "delay_ms"))
    raise InvalidSchedule(f"there are no schedules of the kind {kind!r}")


def _milliseconds(spec: dict[str, Any], name: str, least: int = 0) -> int:
    value = spec.get(name)
    if not isinstance(value, int) or not least <= value <= durations.MAX_MS:
        raise InvalidSchedule(f"{name} of a schedule is {least} to {durations.MAX_MS}, not {shown(value)}")
    return value


def _text(spec: dict[str, Any], name: str) -> str:
    value = spec.get(name)
    if not isinstance(value, str):
        raise InvalidSchedule(f"{name} of a schedule is a text, not {shown(value)}")
    return value


def resumed(trigger: Trigger, next_due: datetime | None, now: datetime) -> datetime | None:
    """When a task is due that was paused: what passed meanwhile is not made good, a phase is kept.

    A task that is due one time, and was not yet, is due at once.
    """
    if next_due is None or next_due > now or isinstance(trigger, FixedDelay | Once):
        return next_due
    return trigger.after(next_due, now)


def skipped(trigger: Trigger, due: datetime, now: datetime) -> datetime:
    """The due time after one that is left out. Raises `InvalidSchedule` where no other would come."""
    if isinstance(trigger, FixedDelay):
        return due + timedelta(milliseconds=trigger.delay_ms)
    later = trigger.after(due, now)
    if later is None:
        raise InvalidSchedule("it is due this one time only; pause it instead")
    return later


def upcoming(trigger: Trigger, next_due: datetime | None, count: int) -> list[datetime]:
    """The next due times, for people; what depends on runs that have not ended is left out."""
    found: list[datetime] = []
    while next_due is not None and len(found) < count:
        found.append(next_due.astimezone(UTC))
        next_due = trigger.after(next_due, next_due)
    return found
