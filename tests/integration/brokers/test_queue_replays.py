"""Replays of what queues gave up: back to the queue, and anew to topics, queues and exchanges."""

from __future__ import annotations

import json

import pytest

from brokers import FixedBackOff, audit, idempotent, topic_log, topics
from brokers.errors import ExchangeNotFound, InvalidType, InvalidValue, QueueNotFound
from brokers.models import ConsumerGroup, DeadLetter, DeadLetterRevision, ProcessedMessage
from brokers.models.queues import Message as Row
from brokers.processed import consumer_of_queue
from brokers.queues import lengths, sending, tending
from brokers.queues.bindings import bind
from brokers.queues.declaring import declare_queue, delete_queue
from brokers.queues.exchanges import declare_exchange, delete_exchange
from brokers.queues.message import Message
from brokers.replays import controls, plans, runner
from brokers.replays.creation import create
from brokers.replays.request import Edit, Target
from brokers.replays.runner import Runner
from brokers.replays.sending import Order, send
from brokers.selectors import dead_letters as letter_reads
from brokers.selectors import replays as reads
from brokers.selectors.dead_letter_filter import Consumer
from tests.integration.brokers.dying import Mortuary
from tests.integration.brokers.given_up import query
from tests.integration.brokers.replaying import Stage, check_counters, ids, outcomes, run_until, state, states
from tests.listening import consuming, until
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

ME = audit.Actor("ada", "rest")


@pytest.fixture
def crew() -> Mortuary:
    return Mortuary(max_priority=5)


# -- back to the queue ----------------------------------------------------------------------------------------------


def test_a_message_goes_back_to_its_queue_with_all_that_it_held(crew: Mortuary) -> None:
    letter = crew.letter(
        {"flight": 1545},
        headers={"tries": 3, "tags": ["a", None]},
        priority=4,
        message_id="m-1",
        correlation_id="c-1",
        reply_to="answers",
        content_type="application/json",
        type="delay",
    )
    sending.send("", crew.queue, "there already", priority=4)
    replay = create(ids(letter), actor=ME)
    runner.advance()
    assert states([letter]) == ["replaying"]
    [before, message] = crew.claim(2)
    assert before.body == "there already"
    assert (message.body, message.priority, message.exchange, message.routing_key) == (
        {"flight": 1545},
        4,
        "",
        crew.queue,
    )
    assert (message.message_id, message.correlation_id, message.reply_to) == ("m-1", "c-1", "answers")
    assert (message.content_type, message.type) == ("application/json", "delay")
    own = {name: value for name, value in message.headers.items() if name.startswith("x-waystation-")}
    assert own == {
        "x-waystation-replay-id": str(replay),
        "x-waystation-replayed-from": str(letter),
        "x-waystation-revision": "1",
        "x-waystation-attempt-base": "0",
        "x-waystation-replayed-by": "ada",
    }
    assert (message.headers["tries"], message.headers["tags"]) == (3, ["a", None])
    assert message.headers["x-death"][0]["count"] == 1
    assert message.headers["x-first-death-queue"] == crew.queue
    crew.ack(message)
    runner.advance()
    assert outcomes(replay) == {letter: ("succeeded", "")}
    assert (state(replay), states([letter])) == ("completed", ["replayed"])
    check_counters(replay)


def test_what_dies_again_is_the_same_dead_letter_and_counts_its_deaths(crew: Mortuary) -> None:
    letter = crew.letter()
    first = create(ids(letter), actor=ME)
    runner.advance()
    assert crew.reject() == letter
    assert outcomes(first) == {letter: ("failed_again", "same")}
    assert states([letter]) == ["open"]
    assert DeadLetter.objects.filter(source=crew.queue).count() == 1
    found = letter_reads.get(letter)
    assert [(death["queue"], death["count"]) for death in found.body.headers["x-death"]] == [(crew.queue, 2)]
    assert not any(name.startswith("x-waystation") for name in found.body.headers)
    second = create(ids(letter), actor=ME)
    runner.advance()
    crew.ack(crew.claim()[0])
    run_until(lambda: state(second) == "completed")
    assert outcomes(second) == {letter: ("succeeded", "")}


def test_what_a_replay_adds_is_not_passed_on_by_the_dead_letter_exchange() -> None:
    grave = Mortuary()
    crew = Mortuary(dead_letter_exchange="", dead_letter_routing_key=grave.queue)
    letter = crew.letter(headers={"tries": 1})
    create(ids(letter), actor=ME)
    runner.advance()
    assert crew.reject() == letter
    first, second = grave.claim(2)
    for message in (first, second):
        assert not [name for name in message.headers if name.startswith("x-waystation")]
    assert (first.headers["x-death"][0]["count"], second.headers["x-death"][0]["count"]) == (1, 2)


def test_a_message_under_way_is_skipped_when_its_queue_is_deleted(crew: Mortuary) -> None:
    letter = crew.letter()
    replay = create(ids(letter), actor=ME)
    runner.advance()
    delete_queue(crew.queue)
    lengths.fold()
    tending.remove_deleted()
    runner.advance()
    assert outcomes(replay) == {letter: ("skipped", "gone")}
    assert (states([letter]), state(replay)) == (["open"], "completed")
    check_counters(replay)


def test_purging_a_queue_skips_what_was_given_back_to_it(crew: Mortuary) -> None:
    letter = crew.letter()
    replay = create(ids(letter), actor=ME)
    runner.advance()
    assert lengths.purge(crew.info, ME) == 1
    assert outcomes(replay) == {letter: ("skipped", "gone")}
    assert states([letter]) == ["open"]


def test_the_oldest_go_where_a_queue_drops_its_head() -> None:
    crew = Mortuary(max_length=2)
    letters = [crew.letter() for _ in range(3)]
    create(crew.all, actor=ME)
    runner.advance()
    assert [message.headers["x-waystation-replayed-from"] for message in crew.claim(5)] == list(map(str, letters[1:]))
    assert states(letters) == ["open", "replaying", "replaying"]
    assert DeadLetter.objects.get(pk=letters[0]).reason == "maxlen"


def test_an_edit_and_a_merge_patch_change_the_body(crew: Mortuary) -> None:
    edited, patched, raw = (crew.letter({"n": 1, "keep": 10**25}), crew.letter({"n": 2}), crew.letter(b"\x00bytes"))
    create(ids(edited), edit=Edit(value=b'{"n":7}', headers={"tries": 1, "x-death": "mine"}), actor=ME)
    replay = create(ids(patched, raw), merge_patch=b'{"cancelled":true}', actor=ME)
    runner.advance()
    one, two = crew.claim(5)
    assert (one.body, one.headers["tries"], one.headers["x-waystation-revision"]) == ({"n": 7}, 1, "2")
    assert one.headers["x-death"][0]["queue"] == crew.queue
    assert two.body == {"n": 2, "cancelled": True}
    assert outcomes(replay)[raw] == ("skipped", "not_json")
    stored = DeadLetterRevision.objects.get(dead_letter_id=edited, number=2)
    assert json.loads(bytes(stored.headers)) == {"tries": 1}


def test_a_message_has_no_key_and_a_record_only_headers_of_text(crew: Mortuary) -> None:
    letter, record = crew.letter(), Stage().letter()
    for act in (plans.plan, create):
        with pytest.raises(InvalidValue, match="a message has no key"):
            act(ids(letter), edit=Edit(key=b"k"))
        with pytest.raises(InvalidType, match="must be text"):
            act(ids(record), edit=Edit(headers={"a": 1}))
        with pytest.raises(InvalidValue, match="64"):
            act(ids(letter), edit=Edit(headers={f"h{n}": n for n in range(65)}))
    assert DeadLetterRevision.objects.filter(dead_letter_id__in=[letter, record]).count() == 2


def test_a_plan_shows_what_would_arrive_deaths_included(crew: Mortuary) -> None:
    letter = crew.letter({"n": 1}, headers={"tries": 1})
    made = plans.plan(ids(letter), edit=Edit(headers={"tries": 2}))
    [sample] = made.sample
    assert made.consumers == [Consumer("queue", crew.queue, "")]
    assert (sample.before.headers["tries"], sample.after.headers["tries"]) == (1, 2)
    assert sample.after.headers["x-death"] == sample.before.headers["x-death"]


def test_what_was_processed_or_has_no_queue_is_skipped(crew: Mortuary) -> None:
    long = Mortuary("q" * 249)
    done = [crew.bare(idempotency_key="k-1"), long.bare(idempotency_key="k-1")]
    todo, gone = crew.bare(idempotency_key="k-2"), Mortuary().bare()
    queue_of_gone = DeadLetter.objects.get(pk=gone).source
    for queue in (crew.queue, long.queue):
        ProcessedMessage.objects.create(consumer=consumer_of_queue(queue), message_key="k-1")
        assert query("select brokers_queue_consumer_name(%s)", queue) == [(consumer_of_queue(queue),)]
        assert len(consumer_of_queue(queue)) <= 249
    ConsumerGroup.objects.create(name=queue_of_gone)  # a group of that name is another thing
    delete_queue(queue_of_gone)
    selection = ids(*done, todo, gone)
    assert plans.plan(selection).skipped == {"already_processed": 2, "gone": 1}
    replay = create(selection, actor=ME)
    ProcessedMessage.objects.create(consumer=consumer_of_queue(crew.queue), message_key="k-2")
    runner.advance()
    assert outcomes(replay)[todo] == ("skipped", "already_processed")
    assert not Row.objects.exists()
    assert plans.plan(selection, target=Target(queue=crew.queue)).total == 4
    check_counters(replay)


def test_a_queue_deleted_after_the_plan_skips_the_item(crew: Mortuary) -> None:
    letter = crew.letter()
    replay = create(ids(letter), actor=ME)
    delete_queue(crew.queue)
    runner.advance()
    assert outcomes(replay) == {letter: ("skipped", "gone")}
    assert (states([letter]), state(replay)) == (["open"], "completed")


def test_a_queue_that_refuses_more_takes_what_it_has_room_for() -> None:
    crew = Mortuary(max_length=2, overflow="reject-publish")
    letters = [crew.letter() for _ in range(3)]
    sending.send("", crew.queue, "there already")
    replay = create(crew.all, actor=ME)
    runner.advance()
    assert outcomes(replay) == dict.fromkeys(letters, ("skipped", "queue_full")) | {letters[0]: ("waiting", "")}
    assert states(letters) == ["replaying", "open", "open"]
    check_counters(replay)


def test_a_time_to_live_begins_anew() -> None:
    crew = Mortuary(message_ttl_ms=3_600_000)
    create(ids(crew.letter()), actor=ME)
    runner.advance()
    row = Row.objects.get()
    assert row.expires_at is not None
    assert (row.expires_at - row.published_at).total_seconds() == 3600


def test_cancelling_leaves_what_was_sent_to_its_queue(crew: Mortuary) -> None:
    letters = [crew.letter() for _ in range(4)]
    replay = create(crew.all, actor=ME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("brokers.replays.pacing.CHUNK", 1)
        runner.step(replay)
    controls.cancel(replay, actor=ME)
    assert [outcome for outcome, _ in outcomes(replay).values()] == ["waiting", *["skipped"] * 3]
    crew.ack(crew.claim()[0])
    assert outcomes(replay)[letters[0]] == ("succeeded", "")
    assert states(letters) == ["replayed", "open", "open", "open"]
    check_counters(replay)


def test_each_is_given_back_once_whatever_fails(crew: Mortuary, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = [crew.letter() for _ in range(3)]
    replay = create(crew.all, actor=ME)

    def fails(order: Order, position: int, most: int) -> None:
        send(order, position, most)
        raise InvalidValue("the worker is killed")

    monkeypatch.setattr(runner, "send", fails)
    runner.advance()
    assert (Row.objects.count(), states(letters)) == (0, ["open"] * 3)
    monkeypatch.undo()
    runner.advance()
    runner.advance()
    assert Row.objects.count() == 3
    assert reads.get(replay).sent == 3


def test_topics_and_queues_go_back_in_one_replay(crew: Mortuary) -> None:
    stage = Stage()
    record, message = stage.letter(), crew.letter()
    replay = create(ids(record, message), actor=ME)
    runner.advance()
    assert stage.consume() == 1
    crew.ack(crew.claim()[0])
    run_until(lambda: state(replay) == "completed")
    assert set(outcomes(replay).values()) == {("succeeded", "")}


def test_a_dead_letter_without_an_envelope_goes_back_by_its_columns(crew: Mortuary) -> None:
    letter = crew.bare(b"null", {"a": 1}, exchange="flights", routing_key="delayed", message_id="m-2")
    create(ids(letter), edit=Edit(value=None), actor=ME)
    runner.advance()
    [message] = crew.claim()
    assert (message.body, message.exchange, message.routing_key, message.message_id) == (
        None,
        "flights",
        "delayed",
        "m-2",
    )
    assert message.headers["a"] == 1


# -- anew -----------------------------------------------------------------------------------------------------------


def test_a_record_is_published_to_a_queue_and_has_then_succeeded(crew: Mortuary) -> None:
    stage = Stage()
    letters = [stage.letter(value=b'{"n":1.50}', headers={"a": "b"}), stage.letter(value=None)]
    replay = create(stage.all, target=Target(queue=crew.queue), actor=ME)
    runner.advance()
    runner.advance()
    one, two = crew.claim(2)
    assert (one.body_bytes, one.headers["a"], one.exchange, one.routing_key) == (b'{"n":1.50}', "b", "", crew.queue)
    assert one.headers["x-waystation-replayed-from"] == str(letters[0])
    assert two.body is None
    assert (state(replay), states(letters)) == ("completed", ["replayed"] * 2)
    assert set(outcomes(replay).values()) == {("succeeded", "")}
    assert crew.reject_all([one, two]) == 2
    assert states(letters) == ["replayed"] * 2


def test_a_message_is_published_to_a_topic_with_headers_of_text(crew: Mortuary) -> None:
    topic = topics.create(unique(), partitions=1).name
    letters = [crew.letter({"n": 1}, headers={"tries": 3, "on": True, "text": "as it is"}), crew.letter(b"null")]
    DeadLetterRevision.objects.filter(dead_letter_id=letters[1]).update(encoding=1)
    replay = create(crew.all, target=Target(topic=topic), actor=ME)
    runner.advance()
    records = topic_log.read(topics.lookup(topic), 0, 0, 10).records
    one, two = records
    assert (one.value, one.key_bytes, one.headers["tries"], one.headers["on"]) == ({"n": 1}, None, "3", "true")
    assert one.headers["text"] == "as it is"
    assert json.loads(one.headers["x-death"])[0]["queue"] == crew.queue
    assert two.value_bytes is None
    assert set(outcomes(replay).values()) == {("succeeded", "")}


def test_an_exchange_routes_by_the_key_given_and_leaves_out_what_reaches_no_queue(crew: Mortuary) -> None:
    exchange = unique("exchange")
    declare_exchange(exchange, type="headers")
    bind(exchange, queue=crew.queue, arguments={"x-match": "all", "wanted": True})
    source = Mortuary()
    letters = [source.letter(headers={"wanted": True, "CC": [source.queue]}), source.letter()]
    replay = create(source.all, target=Target(exchange=exchange, routing_key="anew"), actor=ME)
    runner.advance()
    runner.advance()
    [message] = crew.claim(5)
    assert (message.exchange, message.routing_key, "CC" in message.headers) == (exchange, "anew", False)
    assert outcomes(replay) == {letters[0]: ("succeeded", ""), letters[1]: ("skipped", "unroutable")}
    assert states(letters) == ["replayed", "open"]
    assert source.claim(5) == []
    check_counters(replay)


def test_the_default_exchange_leads_to_the_queue_named_by_the_key(crew: Mortuary) -> None:
    letter = Mortuary().letter(priority=3)
    create(ids(letter), target=Target(exchange="", routing_key=crew.queue), actor=ME)
    runner.advance()
    assert [message.priority for message in crew.claim(5)] == [3]


def test_a_full_queue_gets_as_many_as_fit() -> None:
    stage = Stage()
    letters = stage.letters(5)
    full = Mortuary(max_length=3, overflow="reject-publish")
    replay = create(stage.all, target=Target(queue=full.queue), actor=ME)
    runner.advance()
    assert [why for _, why in outcomes(replay).values()].count("queue_full") == 2
    assert sorted(states(letters)) == ["open"] * 2 + ["replayed"] * 3
    assert len(full.claim(10)) == 3
    check_counters(replay)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (Target(queue="not-there"), QueueNotFound),
        (Target(exchange="not-there", routing_key="k"), ExchangeNotFound),
        (Target(queue="*"), InvalidValue),
        (Target(exchange="a b"), InvalidValue),
        (Target(exchange="", routing_key="é" * 128), InvalidValue),
        (Target(exchange="", routing_key="\0"), InvalidValue),
        (Target(queue="a", exchange="b"), InvalidValue),
    ],
)
def test_a_target_that_cannot_be_is_refused(crew: Mortuary, target: Target, error: type[Exception]) -> None:
    letter = crew.letter()
    for act in (plans.plan, create):
        with pytest.raises(error):
            act(ids(letter), target=target)


def test_a_target_that_is_deleted_stops_the_replay(crew: Mortuary) -> None:
    exchange = unique("exchange")
    declare_exchange(exchange)
    declare_queue(unique("queue"))
    letters = [crew.letter(), crew.letter()]
    replay = create(crew.all, target=Target(exchange=exchange), actor=ME)
    delete_exchange(exchange)
    runner.advance()
    assert state(replay) == "stopped"
    assert exchange in reads.get(replay).stop_cause
    assert states(letters) == ["open", "open"]


# -- with a listener ------------------------------------------------------------------------------------------------


def test_a_listener_that_was_mended_handles_what_it_gave_up(crew: Mortuary) -> None:
    seen: list[tuple[object, int, str | None]] = []
    is_mended = False

    @idempotent(key=lambda message: message.body["n"])
    def handle(message: Message) -> None:
        seen.append((message.body["n"], message.attempt, message.headers.get("x-waystation-attempt-base")))
        if not is_mended:
            raise LookupError("no seat")

    for n in (1, 2):
        sending.send("", crew.queue, {"n": n})
    with Runner(), consuming(handle, crew.queue, retry=FixedBackOff(interval_ms=1, max_retries=1)):
        until(lambda: DeadLetter.objects.count() == 2, what="both are given up")
        letters = list(DeadLetter.objects.order_by("idempotency_key").values_list("pk", flat=True))
        first = create(ids(letters[0]), actor=ME)
        until(lambda: state(first) == "completed", what="the first replay has failed")
        assert outcomes(first) == {letters[0]: ("failed_again", "same")}
        is_mended = True
        ProcessedMessage.objects.create(consumer=consumer_of_queue(crew.queue), message_key="2")
        second = create(crew.all, actor=ME)
        until(lambda: state(second) == "completed", what="the second replay is over")
    assert outcomes(second) == {letters[0]: ("succeeded", ""), letters[1]: ("skipped", "already_processed")}
    assert states(letters) == ["replayed", "open"]
    assert [attempt for n, *attempt in seen if n == 1] == [[1, None], [2, None], [1, "2"], [2, "2"], [1, "4"]]
    found = letter_reads.attempts(letters[0])
    assert [(attempt.number, attempt.replay_id) for attempt in found] == [(1, None), (2, None), (3, first), (4, first)]
    assert DeadLetter.objects.get(pk=letters[0]).reason == "attempts_exhausted"
    check_counters(second)
