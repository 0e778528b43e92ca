"""`manage.py replay`: gives dead letters back to the consumers that failed, as a replay with a plan and a progress."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any, Final

from rich.console import Console

from brokers import audit, terminal
from brokers.errors import InvalidValue
from brokers.management.dead_letter_json import body_json
from brokers.management.dead_letter_selection import add_filters, by_ids, filter_of, is_filtered
from brokers.management.replay_watch import bar, is_over, outcome, replay_json, show
from brokers.replays import controls, creation, plans
from brokers.replays.plans import Plan
from brokers.replays.request import Canary, Contents, Pace, Target
from brokers.selectors import replays as selector
from brokers.selectors.dead_letters import Body, Filter
from brokers.selectors.replays import ReplaySummary
from brokers.terminal import Output, Stop, TerminalCommand, whole_number

_LISTED: Final = 50
_FAILED_SHOWN: Final = 10
_CONTROLS: Final = {"pause": controls.pause, "resume": controls.resume, "cancel": controls.cancel}


def number(text: str) -> float:
    """A decimal number that is not negative."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?|\.[0-9]{1,9}", text, re.ASCII):
        raise ArgumentTypeError(f"{text!a} is not a number such as 20 or 0.5")
    return float(text)


def canary(text: str) -> Canary:
    """`10`, or `10:0.9` with the share of them that must succeed."""
    count, _, share = text.partition(":")
    return Canary(whole_number(count), number(share)) if share else Canary(whole_number(count))


class Command(TerminalCommand):
    """Shows the replay until it is over; Ctrl-C only ends the showing. Status 1 when some have failed again."""

    help = "Replays dead letters, by their ids or by filters."

    def arguments(self, parser: ArgumentParser) -> None:
        """The command's arguments."""
        parser.add_argument("ids", type=whole_number, nargs="*", metavar="ID", help="ids of dead letters")
        add_filters(parser, state="open")
        parser.add_argument("--dry-run", action="store_true", help="say what would be replayed, and change nothing")
        parser.add_argument("--merge-patch", metavar="JSON", help="change each value by this patch (RFC 7396)")
        target = parser.add_mutually_exclusive_group()
        target.add_argument("--target-topic", metavar="T", help="publish to this topic, not back to who failed")
        target.add_argument("--target-queue", metavar="Q", help="or to this queue")
        target.add_argument("--target-exchange", metavar="E", help="or to this exchange ('' is the default one)")
        parser.add_argument("--routing-key", metavar="K", help="with --target-exchange; else empty")
        parser.add_argument("--rate", type=number, metavar="N", help="at most so many a second")
        parser.add_argument("--canary", type=canary, metavar="N[:SHARE]", help="the rest only if these succeed (0.9)")
        parser.add_argument(
            "--stop-when-failed-again", type=number, metavar="SHARE", help="stop above this share of failures, 0 to 1"
        )
        parser.add_argument("--reason", default="", help="why; it stays with the replay")
        running = parser.add_mutually_exclusive_group()
        running.add_argument("--list", action="store_true", dest="listed", help="the newest replays")
        for name, text in (
            ("watch", "show a replay that is under way"),
            ("pause", "send nothing more for now"),
            ("resume", "go on, and show it"),
            ("cancel", "send nothing more"),
        ):
            running.add_argument(f"--{name}", type=whole_number, metavar="REPLAY", help=text)

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Plans, replays, or looks after a replay that is there."""
        if options["listed"]:
            _list(output)
            return
        for name, control in _CONTROLS.items():
            if options[name] is not None:
                control(options[name], actor=audit.COMMAND)
                if name != "resume":
                    _tell(output, selector.get(options[name]))
                    return
        under_way = options["watch"] if options["watch"] is not None else options["resume"]
        if under_way is not None:
            with terminal.stopping() as stop:
                self._watch(output, under_way, stop)
            return
        request, pace = _request(options), _pace(options)
        if options["dry_run"]:
            _tell_plan(output, plans.plan(**request))
            return
        with terminal.stopping() as stop:
            replay_id = creation.create(**request, pace=pace, reason=options["reason"], actor=audit.COMMAND)
            self._watch(output, replay_id, stop)

    def _watch(self, output: Output, replay_id: int, stop: Stop) -> None:
        with bar(Console(stderr=True)) as progress:
            replay = show(progress, replay_id, stop)
        _tell(output, replay)
        output.flush()
        if stop and not is_over(replay):
            self.note(f"replay {replay_id} goes on without this command; replay --watch {replay_id} shows it again")
            sys.exit(stop.status)
        if replay.failed_again or replay.state != "completed":
            sys.exit(1)


def _request(options: dict[str, Any]) -> dict[str, Any]:
    ids, patch = options["ids"], options["merge_patch"]
    if bool(ids) == is_filtered(options):
        raise InvalidValue("say which dead letters: ids, or at least one filter such as --group, and not both")
    selection: Filter = by_ids(ids) if ids else filter_of(options)
    return {
        "selection": selection,
        "target": _target(options),
        "merge_patch": None if patch is None else patch.encode("utf-8", "surrogateescape"),
    }


def _target(options: dict[str, Any]) -> Target | None:
    key = options["routing_key"]
    if key is not None and options["target_exchange"] is None:
        raise InvalidValue("--routing-key goes with --target-exchange")
    named = {name: options[f"target_{name}"] for name in ("topic", "queue", "exchange")}
    given = {name: value for name, value in named.items() if value is not None}
    return Target(**given, routing_key=key or "") if given else None


def _pace(options: dict[str, Any]) -> Pace:
    return Pace(options["rate"], options["canary"], options["stop_when_failed_again"]).checked()


# -- the plan -----------------------------------------------------------------------------------------------------


def _tell_plan(output: Output, plan: Plan) -> None:
    sample = [
        {"id": each.id, "before": _contents_json(each.before), "after": _contents_json(each.after)}
        for each in plan.sample
    ]
    output.json({"total": plan.total, "skipped": plan.skipped, "sample": sample})
    for line in plan_lines(plan):
        output.line(line)


def plan_lines(plan: Plan) -> list[str]:
    """A plan for people."""
    lines = [f"{plan.total:,} dead letter{'' if plan.total == 1 else 's'} would be replayed"]
    lines += [f"{count:,} would be skipped: {why.replace('_', ' ')}" for why, count in plan.skipped.items()]
    for each in plan.sample:
        lines.append(f"dead letter {each.id}, {each.source} to {each.group or each.source}")
        if each.after == each.before:
            lines.append(f"    {_value(each.before)}")
        else:
            lines += [f"  - {_value(each.before)}", f"  + {_value(each.after)}"]
    return lines


def _contents_json(contents: Contents) -> dict[str, Any]:
    return body_json(Body(contents.key, contents.value, contents.encoding, dict(contents.headers)))


def _value(contents: Contents) -> str:
    return "tombstone" if contents.value is None else terminal.printable_bytes(contents.value)


# -- replays ------------------------------------------------------------------------------------------------------


def _tell(output: Output, replay: ReplaySummary) -> None:
    output.json(replay_json(replay))
    output.line(outcome(replay))
    for why, count in replay.skips.items():
        output.line(f"  {count:,} skipped: {why.replace('_', ' ')}")
    if replay.failed_again and not output.as_json:
        items, more = selector.items(replay.id, "failed_again", None, _FAILED_SHOWN)
        for item in items:
            output.line(f"  dead letter {item.dead_letter_id} failed again{' otherwise' if item.why == 'new' else ''}")
        if more is not None:
            output.line(f"  and {replay.failed_again - len(items):,} more")


def _list(output: Output) -> None:
    found, _ = selector.page(None, _LISTED, lambda kind, source, group: True)
    for replay in found:
        output.json(replay_json(replay))
    output.table(
        (">Id", "State", ">Total", ">Succeeded", ">Failed again", ">Skipped", "Created", "By", "Reason"),
        [
            (
                f"{replay.id}",
                replay.state,
                f"{replay.total:,}",
                f"{replay.succeeded:,}",
                f"{replay.failed_again:,}",
                f"{replay.skipped:,}",
                terminal.instant(replay.created_at),
                replay.created_by,
                replay.reason,
            )
            for replay in found
        ],
        "There are no replays",
    )
