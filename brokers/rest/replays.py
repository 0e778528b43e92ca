"""Replays over REST: dry runs, creation under an Idempotency-Key, progress, items, pauses."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from brokers import idempotency
from brokers.errors import (
    DeadLetterNotFound,
    DeadLetterReplaying,
    ExchangeNotFound,
    FailureGroupNotFound,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    InvalidName,
    QueueNotFound,
    RecordTooLarge,
    ReplayFinished,
    ReplayNotFound,
    RevisionSuperseded,
    SearchTooBroad,
    TopicNotFound,
)
from brokers.instants import rfc3339
from brokers.replays import controls, creation, plans
from brokers.replays.request import Contents
from brokers.rest import replay_schemas as schemas
from brokers.rest.dead_letters import moment, payload
from brokers.rest.failure_access import REPLAY, SEE, SEEN, VIEW, WRITE, Reader
from brokers.rest.operation import Answer, Call, Operation
from brokers.rest.replay_input import edit_of, merge_patch_of, pace_of, selection_of, target_of
from brokers.rest.threads import in_thread
from brokers.selectors import replays as selector
from brokers.selectors.replays import ReplaySummary

_encode = msgspec.json.Encoder().encode


async def post_replay(call: Call) -> Answer:
    """Replays the dead letters selected now, each once, or says what that would do.

    With `target` null each goes back to the consumer that failed and to no other. The replay starts at once. With an
    `Idempotency-Key` a repeat within 24 hours is answered with the first replay, as it is now.
    """
    body: schemas.ReplayRequest = call.body
    reader = Reader(call.principal)
    reader.require_some("replay")
    target, edit, patch = target_of(body, reader), edit_of(body), merge_patch_of(body)
    check = reader.check(edits=body.edit is not None)

    def plan() -> bytes:
        made = plans.plan(selection_of(body, reader), target=target, edit=edit, merge_patch=patch, check=check)
        sample = [_sample(found, reader) for found in made.sample]
        return _encode(schemas.ReplayPlan(made.total, made.skipped, sample))

    def create() -> bytes:
        made = creation.create(
            selection_of(body, reader),
            target=target,
            edit=edit,
            merge_patch=patch,
            pace=pace_of(body),
            reason=body.reason,
            actor=call.actor(),
            check=check,
        )
        return b"%d" % made

    if body.dry_run:
        return Answer(body=await in_thread(plan))
    key = call.headers.get(b"idempotency-key")
    checked_key = None if key is None else idempotency.checked_key(key)

    def create_once() -> tuple[bytes, int, bool]:
        if checked_key is None:
            made, repeated = create(), False
        else:
            made, repeated = idempotency.once(call.principal.name, "replays", checked_key, call.raw, create)
        return _described(int(made), reader), int(made), repeated

    answer, number, repeated = await in_thread(create_once)
    headers = [(b"location", b"/api/v1/replays/%d" % number)]
    return Answer(202, answer, [*headers, (b"idempotent-replayed", b"true")] if repeated else headers)


async def get_replays(call: Call) -> Answer:
    """Replays, newest first: those of which the caller may know every consumer."""
    reader = Reader(call.principal)
    found, following = await in_thread(selector.page, call.query.after, call.query.limit, reader.sees)
    known = [_shown(replay) for replay in found if _knows(reader, replay)]
    return Answer(body=schemas.ReplayPage(known, None if following is None else str(following)))


async def get_replay(call: Call) -> Answer:
    """One replay and how far it has come."""
    reader = Reader(call.principal)
    reader.require_some("describe")
    return Answer(body=await in_thread(_described, call.integer("replay_id"), reader))


async def get_replay_items(call: Call) -> Answer:
    """What became of each dead letter, in the order in which they are sent."""
    query: schemas.ReplayItemQuery = call.query
    reader = Reader(call.principal)
    reader.require_some("describe")

    def read() -> schemas.ReplayItemPage:
        number = call.integer("replay_id")
        _known(number, reader)
        found, following = selector.items(number, query.outcome, query.after, query.limit)
        items = [
            schemas.ReplayItem(
                item.dead_letter_id,
                item.revision,
                item.outcome,  # type: ignore[arg-type]
                item.why,
                rfc3339(item.sent_at),
                rfc3339(item.finished_at),
            )
            for item in found
        ]
        return schemas.ReplayItemPage(items, None if following is None else str(following))

    return Answer(body=await in_thread(read))


async def post_replay_pause(call: Call) -> Answer:
    """Sends nothing more until it is resumed; what is sent stays sent."""
    return await _controlled(call, controls.pause)


async def post_replay_resume(call: Call) -> Answer:
    """Goes on as before the pause."""
    return await _controlled(call, controls.resume)


async def post_replay_cancel(call: Call) -> Answer:
    """Sends nothing more, for good; what is sent stays sent."""
    return await _controlled(call, controls.cancel)


async def _controlled(call: Call, control: Callable[..., str]) -> Answer:
    reader = Reader(call.principal)
    reader.require_some("replay")

    def act() -> bytes:
        number = call.integer("replay_id")
        reader.require_replay(_known(number, reader).consumers)
        control(number, actor=call.actor())
        return _described(number, reader)

    return Answer(body=await in_thread(act))


# -- answers ------------------------------------------------------------------------------------------------------


def _knows(reader: Reader, replay: ReplaySummary) -> bool:
    """Whoever may know of every consumer; of one that selected nothing, whoever made it."""
    if replay.consumers:
        return reader.sees_all(replay.consumers)
    return reader.principal.superuser or replay.created_by == reader.principal.actor_name()


def _known(number: int, reader: Reader) -> ReplaySummary:
    replay = selector.get(number)
    if not _knows(reader, replay):
        raise ReplayNotFound(f"there is no replay {number}")
    return replay


def _described(number: int, reader: Reader) -> bytes:
    return _encode(_shown(_known(number, reader)))


def _shown(replay: ReplaySummary) -> schemas.Replay:
    return schemas.Replay(
        id=replay.id,
        state=replay.state,  # type: ignore[arg-type]
        total=replay.total,
        sent=replay.sent,
        waiting=replay.waiting,
        succeeded=replay.succeeded,
        failed_again=replay.failed_again,
        skipped=replay.skipped,
        selection=msgspec.convert(replay.selection, schemas.ReplaySelectionGiven),
        target=None if replay.target is None else msgspec.convert(replay.target, schemas.ReplayTargetGiven),
        rate_per_second=replay.rate_per_second,
        canary=None if replay.canary is None else msgspec.convert(replay.canary, schemas.ReplayCanaryGiven),
        stop_when_failed_again=replay.stop_when_failed_again,
        stop_cause=replay.stop_cause,
        reason=replay.reason,
        created_by=replay.created_by,
        created_at=moment(replay.created_at),
        finished_at=rfc3339(replay.finished_at),
    )


def _sample(found: plans.Sample, reader: Reader) -> schemas.ReplaySample:
    if not reader.views(found.source_kind, found.source):
        return schemas.ReplaySample(found.id, None, None, payload_hidden=True)
    return schemas.ReplaySample(found.id, _contents(found.before), _contents(found.after))


def _contents(found: Contents) -> schemas.Contents:
    return schemas.Contents(**payload(found.key, found.value, found.encoding, found.headers))


def operations() -> list[Operation]:
    """Declarations of all operations on replays."""
    replay = "/api/v1/replays/{replay_id}"
    controlled = [
        Operation(
            method="POST",
            path=f"{replay}/{verb}",
            summary=f"{verb.capitalize()} a replay",
            tag="Replays",
            access=(REPLAY,),
            handler=handler,
            answers={200: schemas.Replay},
            problems=(ReplayNotFound, ReplayFinished),
        )
        for verb, handler in (
            ("pause", post_replay_pause),
            ("resume", post_replay_resume),
            ("cancel", post_replay_cancel),
        )
    ]
    return [
        Operation(
            method="POST",
            path="/api/v1/replays",
            summary="Replay dead letters",
            tag="Replays",
            access=(REPLAY, WRITE, VIEW),
            handler=post_replay,
            body=schemas.ReplayRequest,
            answers={202: schemas.Replay, 200: schemas.ReplayPlan},
            answer_headers=(
                ("Location", "The replay's path."),
                ("Idempotent-Replayed", "`true` when this is the replay of an earlier request."),
            ),
            headers=(("Idempotency-Key", "A repeat within 24 hours gets the first replay and makes none."),),
            problems=(
                DeadLetterNotFound,
                FailureGroupNotFound,
                DeadLetterReplaying,
                RevisionSuperseded,
                TopicNotFound,
                QueueNotFound,
                ExchangeNotFound,
                RecordTooLarge,
                SearchTooBroad,
                InvalidIdempotencyKey,
                InvalidName,
                IdempotencyInProgress,
                IdempotencyKeyReused,
            ),
        ),
        Operation(
            method="GET",
            path="/api/v1/replays",
            summary="List replays",
            tag="Replays",
            access=(SEEN,),
            handler=get_replays,
            query=schemas.ReplayPageQuery,
            answers={200: schemas.ReplayPage},
        ),
        Operation(
            method="GET",
            path=replay,
            summary="Describe a replay",
            tag="Replays",
            access=(SEE,),
            handler=get_replay,
            answers={200: schemas.Replay},
            problems=(ReplayNotFound,),
        ),
        Operation(
            method="GET",
            path=f"{replay}/items",
            summary="List what a replay holds",
            tag="Replays",
            access=(SEE,),
            handler=get_replay_items,
            query=schemas.ReplayItemQuery,
            answers={200: schemas.ReplayItemPage},
            problems=(ReplayNotFound,),
        ),
        *controlled,
    ]
