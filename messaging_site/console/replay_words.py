"""A replay in words and figures: what it replays and where to, how far it is, as the pages show it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from brokers.selectors.dead_letter_filter import Filter
from brokers.selectors.replays import Progress, ReplaySummary
from messaging_site.console import formatting
from messaging_site.console.failure_access import label
from messaging_site.console.failure_words import short_class, why

BAR_WIDTH = 1000


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the progress bar."""

    kind: str
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a replay is. `skipped` leaves out what the plan had skipped."""

    total: int
    sent: int
    succeeded: int
    failed_again: int
    under_way: int
    skipped: int
    planned_skips: list[tuple[str, int]]
    segments: list[Segment]
    percent: int
    text: str
    eta: str


def standing(replay: ReplaySummary, progress: Progress) -> Standing:
    """The figures of one moment, none of them beyond the plan's total."""
    total = max(replay.total, 0)
    skipped = max(0, replay.skipped - sum(replay.skips.values()))
    succeeded, failed_again = min(replay.succeeded, total), min(replay.failed_again, total)
    sent = min(max(replay.sent, succeeded + failed_again), total)
    under_way = max(0, min(progress.under_way, total - succeeded - failed_again))
    parts = [("ok", succeeded), ("bad", failed_again), ("mute", skipped), ("info", under_way)]
    settled = succeeded + failed_again + skipped
    said = [f"{sent:,} of {total:,} sent", f"{succeeded:,} succeeded", f"{under_way:,} under way"]
    said += [f"{failed_again:,} failed again"] + ([f"{skipped:,} skipped"] if skipped else [])
    return Standing(
        total=total,
        sent=sent,
        succeeded=succeeded,
        failed_again=failed_again,
        under_way=under_way,
        skipped=skipped,
        planned_skips=sorted(((why(name), count) for name, count in replay.skips.items()), key=lambda each: -each[1]),
        segments=_segments(parts, total),
        percent=100 if not total else min(100, settled * 100 // total),
        text="; ".join(said),
        eta="" if progress.eta_seconds is None else formatting.duration(max(1, round(progress.eta_seconds)) * 1000),
    )


def _segments(parts: list[tuple[str, int]], total: int) -> list[Segment]:
    found: list[Segment] = []
    x = 0.0
    for kind, count in parts:
        width = round(BAR_WIDTH * count / total, 2) if total else 0.0
        if width:
            found.append(Segment(kind, round(x, 2), min(width, BAR_WIDTH - x)))
            x += width
    return found


def target_text(target: Mapping[str, Any] | None) -> str:
    """Where a replay leads when it publishes anew; empty for back to the consumer."""
    if target is None:
        return ""
    if "topic" in target:
        return f"topic {target['topic']}"
    if "queue" in target:
        return f"queue {target['queue']}"
    exchange = f"exchange {target['exchange']}" if target["exchange"] else "the default exchange"
    return f"{exchange} with routing key {target.get('routing_key', '')}"


def consumer_labels(replay: ReplaySummary) -> list[str]:
    """Whose dead letters it has."""
    return [label(consumer) for consumer in replay.consumers]


def selection_words(selection: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A frozen selection as pairs of a word and a value."""
    if "ids" in selection:
        ids = [f"{number}" for number in selection["ids"]]
        return [("dead letters", ", ".join(ids[:8]) + (f" and {len(ids) - 8:,} more" if len(ids) > 8 else ""))]
    given = {name: str(value) for name, value in selection.get("filter", {}).items()}
    return [(name.replace("_", " "), value[:16] if name == "fingerprint" else value) for name, value in given.items()]


def selection_filter(selection: Mapping[str, Any]) -> Filter | None:
    """The filter of a frozen selection; None for one of ids."""
    if "filter" not in selection:
        return None
    given = dict(selection["filter"])
    for name in ("since", "until"):
        if given.get(name):
            given[name] = datetime.fromisoformat(given[name])
    return Filter(**given)


def again_query(replay: ReplaySummary) -> str:
    """The address's parameters that plan the same once more."""
    parameters: list[tuple[str, str]] = []
    if "ids" in replay.selection:
        parameters.append(("ids", ",".join(map(str, replay.selection["ids"][:1000]))))
    else:
        parameters.append(("all", "1"))
        parameters += [
            (name, str(value).replace("Z", "")) if name in ("since", "until") else (name, str(value))
            for name, value in replay.selection.get("filter", {}).items()
        ]
    if replay.target is not None:
        to = next(name for name in ("topic", "queue", "exchange") if name in replay.target)
        parameters += [("to", to), *((name, str(value)) for name, value in replay.target.items())]
    if replay.merge_patch:
        parameters.append(("merge_patch", replay.merge_patch))
    if replay.rate_per_second is not None:
        parameters.append(("rate_per_second", f"{replay.rate_per_second:g}"))
    if replay.canary is not None:
        parameters += [("canary", "on"), ("count", str(replay.canary["count"]))]
        parameters.append(("min_success", f"{replay.canary['min_success'] * 100:g}"))
    if replay.stop_when_failed_again is not None:
        parameters += [("stop", "on"), ("stop_when_failed_again", f"{replay.stop_when_failed_again * 100:g}")]
    if replay.reason:
        parameters.append(("reason", replay.reason))
    return urlencode(parameters)


def as_api_call(selection: Mapping[str, Any], body: Mapping[str, Any], address: str) -> str:
    """The same request over REST, with a placeholder for the token; quoted for a shell."""
    text = json.dumps({"selection": selection, **body}, ensure_ascii=False).replace("'", "'\\''")
    return (
        f"curl -X POST {address}/api/v1/replays \\\n"
        '  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\\n'
        f"  -d '{text}'"
    )


def failure_name(exception_class: str, message: str, reason: str) -> str:
    """A failure group's name in one line."""
    name = short_class(exception_class) if exception_class else reason
    return f"{name}: {message}" if message else name
