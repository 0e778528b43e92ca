"""Alert rules are evaluated: what they see, when they raise and resolve, and that each incident is told once."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.db.models import F
from django.utils import timezone

from brokers import failure_counts, groups, publish_many, topics
from brokers.alerts import evaluation, figures
from brokers.alerts.evaluation import evaluate
from brokers.errors import Unavailable
from brokers.groups import GroupOffset, Subscription
from brokers.models import Alert, AlertNotification, AlertRule, FailureGroup, FailureMinute, Message
from brokers.queues import claims, lengths, topology
from brokers.queues.declaring import declare_queue
from brokers.queues.sending import send
from messaging_site.console import alert_words
from tests.integration.brokers.failing_sources import fail, failure_group, rule, settle

pytestmark = pytest.mark.django_db(transaction=True)


def firing() -> set[str]:
    return set(Alert.objects.filter(raised_at__isnull=False, resolved_at__isnull=True).values_list("scope", flat=True))


def told(of: AlertRule) -> list[tuple[str, str, str]]:
    return [
        (note.alert.scope if note.alert else "", note.event, note.channel)
        for note in AlertNotification.objects.filter(rule=of).select_related("alert").order_by("id")
    ]


def measured(of: AlertRule) -> dict[str, float]:
    return figures.figures(of, [])


# -- figures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folded", [False, True])
def test_depth_counts_open_dead_letters_of_each_source(folded: bool) -> None:
    fail("orders", 3)
    fail("orders", 2, group="mailing")
    fail("prices", 4)
    fail("prices", 1, kind="queue", group="")
    settle("prices", "discarded")
    if folded:
        failure_counts.fold()
    fail("refunds", 1)
    assert measured(rule("depth")) == {"topic orders": 5, "topic prices": 0, "queue prices": 0, "topic refunds": 1}


def test_a_rule_covers_the_names_that_it_says() -> None:
    fail("orders", 1)
    fail("orders", 2, group="mailing")
    fail("orders.eu", 4)
    fail("ORDERS", 8)
    fail("order_", 16)
    assert measured(rule(source="orders")) == {"topic orders": 3}
    assert measured(rule(source="orders*")) == {"topic orders": 3, "topic orders.eu": 4}
    assert measured(rule(source="order_")) == {"topic order_": 16}, "no pattern but the last star"
    assert measured(rule(source="*", group_name="mail*")) == {"group mailing of topic orders": 2}
    assert measured(rule(source="orders", group_name="*")) == {
        "group billing of topic orders": 1,
        "group mailing of topic orders": 2,
    }
    assert measured(rule(source="nothing*")) == {}


@pytest.mark.parametrize("folded", [False, True])
def test_growth_is_what_failed_within_a_minute(folded: bool) -> None:
    fail("orders", 3)
    fail("orders", 5, group="mailing")
    fail("prices", 7, seconds_ago=200)
    if folded:
        failure_counts.fold()
    found = measured(rule("growth"))
    assert set(found) == {"topic orders"}
    assert found["topic orders"] in (3, 5, 8), "8 unless a minute has just begun"


def test_growth_counts_what_is_settled_already() -> None:
    fail("orders", 3)
    settle("orders")
    assert measured(rule("growth")) == {"topic orders": 3}


def test_the_oldest_age_is_that_of_the_oldest_open_one() -> None:
    fail("orders", 1, seconds_ago=500)
    fail("orders", 1, seconds_ago=90, group="mailing")
    fail("prices", 1, seconds_ago=1000)
    settle("prices")
    found = measured(rule("oldest_age"))
    assert set(found) == {"topic orders"}
    assert 500 <= found["topic orders"] < 600
    assert 90 <= measured(rule("oldest_age", group_name="mailing"))["group mailing of topic orders"] < 190


def test_lag_is_what_a_group_has_not_committed() -> None:
    for name in ("orders", "prices"):
        topics.create(name, partitions=2)
    member = groups.join("billing", Subscription(("orders", "prices"))).member_id
    groups.poll("billing", member)
    publish_many("orders", [{"value": number, "partition": number % 2} for number in range(10)])
    publish_many("prices", [{"value": 1}])
    groups.commit("billing", member, [GroupOffset("orders", 0, 2)])
    assert measured(rule("group_lag")) == {"group billing of topic orders": 8, "group billing of topic prices": 1}
    assert measured(rule("group_lag", source="pri*", group_name="b*")) == {"group billing of topic prices": 1}
    assert measured(rule("group_lag", group_name="mailing")) == {}


@pytest.mark.parametrize("folded", [False, True])
def test_queues_are_measured_by_what_is_ready(folded: bool) -> None:
    declare_queue("orders", max_priority=3)
    declare_queue("orders.eu")
    declare_queue("prices")
    for number in range(4):
        send("", "orders", number, priority=number)
    send("", "orders", "later", delay_ms=60_000)
    send("", "prices", 1)
    claims.claim(topology.queue("orders"), 1, 30_000, "test")
    if folded:
        lengths.fold()
    Message.objects.filter(priority=1).update(published_at=timezone.now() - timedelta(minutes=5))
    assert measured(rule("queue_depth", source="orders*")) == {"queue orders": 3, "queue orders.eu": 0}
    assert measured(rule("queue_depth")).keys() == {"queue orders", "queue orders.eu", "queue prices"}
    ages = measured(rule("queue_age"))
    assert ages.keys() == {"queue orders", "queue prices"}
    assert 300 <= ages["queue orders"] < 330
    assert ages["queue prices"] < 30
    assert alert_words.covers(rule("queue_age")) == "every queue"


def test_a_backlog_is_never_scanned_for_its_oldest_message() -> None:
    declare_queue("orders", max_priority=3)
    number = topology.queue("orders").id
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into brokers_message (queue_id, priority, pos, encoding, envelope, body)"
            " select %s, n %% 4, n, 1, '{}', '1' from generate_series(1, 20000) n",
            [number],
        )
    with transaction.atomic(), connection.cursor() as cursor:
        measured(rule("queue_age"))
        cursor.execute(
            "select idx_tup_fetch + seq_tup_read from pg_stat_xact_user_tables where relname = 'brokers_message'"
        )
        [read] = cursor.fetchone()
    assert read < 50


def test_only_so_many_scopes_are_looked_at_the_watched_ones_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST_SCOPES", 2)
    for source, count in (("a", 1), ("b", 2), ("c", 3), ("d", 4)):
        fail(source, count)
    assert measured(rule()) == {"topic d": 4, "topic c": 3}
    assert figures.figures(rule(), ["topic a"]) == {"topic a": 1, "topic d": 4}


def test_dead_letters_are_never_scanned() -> None:
    """50,000 of them in 200 failure groups, most of them settled: looking costs no sequential scan."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into brokers_failure_group (fingerprint, version, source_kind, source, reason, group_name)"
            " select n::text, 1, 'topic', 's' || n, 'exception', 'g' from generate_series(1, 200) n"
        )
        cursor.execute(
            "insert into brokers_dead_letter (state, reason, failure_group_id, source_kind, source, group_name, size,"
            " first_failed_at, failed_at) select case when n %% 50 = 0 then 'open' else 'replayed' end, 'exception',"
            " g.id, 'topic', g.source, 'g', 1, now(), now() from generate_series(1, 250) n, brokers_failure_group g",
            [],
        )
    failure_counts.fold()
    with connection.cursor() as cursor:
        cursor.execute("analyze brokers_dead_letter, brokers_failure_group, brokers_failure_change")
    with transaction.atomic():
        for metric in ("depth", "growth", "oldest_age", "group_lag"):
            for source, group in (("", ""), ("s1*", ""), ("s7", "g")):
                measured(rule(metric, source=source, group_name=group))
        with connection.cursor() as cursor:
            cursor.execute(
                "select seq_scan from pg_stat_xact_user_tables where relid = 'brokers_dead_letter'::regclass"
            )
            assert cursor.fetchone() == (0,)


# -- pending, raised, resolved ------------------------------------------------------------------------------------


def test_an_alert_is_raised_once_and_resolved_once() -> None:
    watching = rule(threshold=3, emails="a@example.org", webhook_url="http://localhost/hook")
    fail("orders", 2)
    assert evaluate() == 0
    fail("orders", 1)
    assert evaluate() == 1
    fail("orders", 4)
    assert evaluate() == evaluate() == 0
    alert = Alert.objects.get()
    assert (alert.scope, alert.value, firing()) == ("topic orders", 7, {"topic orders"})
    settle("orders")
    assert evaluate() == 1
    assert evaluate() == 0
    alert.refresh_from_db()
    assert alert.value == 0
    assert alert.raised_at is not None
    assert alert.resolved_at is not None
    assert alert.began_at <= alert.raised_at < alert.resolved_at
    assert told(watching) == [
        ("topic orders", event, channel) for event in ("raised", "resolved") for channel in ("email", "log", "webhook")
    ]
    assert list(AlertNotification.objects.order_by("id").values_list("value", flat=True)) == [3.0] * 3 + [0.0] * 3


def test_each_crossing_of_the_threshold_is_an_incident_of_its_own() -> None:
    watching = rule()
    for _ in range(3):
        fail("orders")
        assert (evaluate(), evaluate()) == (1, 0)
        settle("orders")
        assert (evaluate(), evaluate()) == (1, 0)
    assert told(watching) == [("topic orders", "raised", "log"), ("topic orders", "resolved", "log")] * 3
    assert Alert.objects.count() == 3


def test_a_figure_must_stay_at_the_threshold_for_as_long_as_the_rule_says() -> None:
    watching = rule(for_seconds=60)
    fail("orders")
    assert evaluate() == 0
    alert = Alert.objects.get()
    assert alert.raised_at is None
    assert told(watching) == []
    Alert.objects.update(began_at=F("began_at") - timedelta(seconds=61))
    assert evaluate() == 1
    assert told(watching) == [("topic orders", "raised", "log")]


def test_what_did_not_last_leaves_nothing_behind() -> None:
    watching = rule(for_seconds=60)
    fail("orders")
    evaluate()
    settle("orders")
    assert evaluate() == 0
    assert not Alert.objects.exists()
    fail("orders")
    evaluate()
    began_at = Alert.objects.get().began_at
    assert timezone.now() - began_at < timedelta(seconds=30), "the time counts from the newest crossing"
    assert told(watching) == []


def test_scopes_are_raised_and_resolved_apart() -> None:
    rule(threshold=2)
    fail("orders", 2)
    fail("prices", 5)
    assert evaluate() == 2
    assert firing() == {"topic orders", "topic prices"}
    settle("orders")
    assert evaluate() == 1
    assert firing() == {"topic prices"}


def test_a_figure_of_nothing_raises_nothing_whatever_the_threshold() -> None:
    rule(threshold=0)
    failure_group("orders")
    assert evaluate() == 0
    fail("orders")
    assert evaluate() == 1


def test_a_rule_switched_off_resolves_what_it_raised_and_looks_no_more() -> None:
    watching = rule()
    fail("orders")
    evaluate()
    AlertRule.objects.update(enabled=False)
    assert evaluate() == 1
    assert told(watching)[-1] == ("topic orders", "resolved", "log")
    assert evaluate() == 0
    assert firing() == set()


def test_a_scope_that_a_rule_does_not_cover_any_more_is_resolved() -> None:
    rule()
    fail("orders")
    evaluate()
    AlertRule.objects.update(source="prices*")
    assert evaluate() == 1
    assert firing() == set()


def test_a_rule_without_channels_raises_what_the_console_shows() -> None:
    watching = rule(to_log=False)
    fail("orders")
    assert evaluate() == 1
    assert firing() == {"topic orders"}
    assert told(watching) == []


def test_an_evaluation_is_noted_in_the_rule() -> None:
    watching = rule(threshold=100)
    evaluate()
    watching.refresh_from_db()
    assert (watching.highest, watching.error) == (None, "")
    assert watching.evaluated_at is not None
    fail("orders", 7)
    evaluate()
    watching.refresh_from_db()
    assert watching.highest == 7


# -- several evaluators, failures, restarts -----------------------------------------------------------------------


def test_evaluators_side_by_side_tell_each_incident_once() -> None:
    rules = [rule(), rule(threshold=2), rule("oldest_age", threshold=0, to_log=True)]
    together = threading.Barrier(3)
    failures: list[BaseException] = []

    def evaluator() -> None:
        try:
            for _ in range(12):
                together.wait(30)
                evaluate()
                together.wait(30)
        except BaseException as error:  # the test's own thread raises it
            failures.append(error)
            together.abort()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=evaluator) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(12):
        fail("orders", 2) if turn % 2 == 0 else settle("orders")
        together.wait(30)
        together.wait(30)
    for thread in threads:
        thread.join(30)
    assert failures == []
    for watching in rules:
        evaluate()  # the last change, should both have passed by each other's rule
        events = [event for _, event, _ in told(watching)]
        assert events == ["raised", "resolved"] * (len(events) // 2)
        assert 1 <= len(events) // 2 <= 6
        assert Alert.objects.filter(rule=watching).count() == len(events) // 2


def test_a_rule_that_another_process_evaluates_is_left_to_it() -> None:
    watching = rule()
    fail("orders")
    with transaction.atomic():
        AlertRule.objects.select_for_update().get(pk=watching.pk)
        answers: list[int] = []

        def other() -> None:
            answers.append(evaluate())
            connections.close_all()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(30)
        assert answers == [0]
    assert evaluate() == 1


def test_a_rule_that_fails_says_so_and_stops_no_other() -> None:
    broken, sound = rule(), rule()
    AlertRule.objects.filter(pk=broken.pk).update(metric="nonsense")
    fail("orders")
    assert evaluate() == 1
    broken.refresh_from_db()
    assert "nonsense" in broken.error
    assert broken.evaluated_at is not None
    assert told(sound) == [("topic orders", "raised", "log")]
    AlertRule.objects.filter(pk=broken.pk).update(metric="depth")
    assert evaluate() == 1
    broken.refresh_from_db()
    assert broken.error == ""


def test_a_rule_that_takes_too_long_is_cut_off_and_what_it_raised_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, sound = rule(), rule()
    fail("orders")
    evaluate()
    look = figures.figures

    def sleepy(of: AlertRule, watched: list[str]) -> dict[str, float]:
        if of.pk == slow.pk:
            with connection.cursor() as cursor:
                cursor.execute("select pg_sleep(60)")
        return look(of, watched)

    monkeypatch.setattr(evaluation, "figures", sleepy)
    monkeypatch.setattr(evaluation, "TIME_LIMIT_MS", 50)
    settle("orders")
    assert evaluate() == 1
    slow.refresh_from_db()
    assert "timeout" in slow.error
    assert [event for _, event, _ in told(slow)] == ["raised"]
    assert [event for _, event, _ in told(sound)] == ["raised", "resolved"]
    with connection.cursor() as cursor:
        cursor.execute("show statement_timeout")
        assert cursor.fetchone() == ("0",), "the limit ends with the transaction"


@pytest.mark.parametrize("away", [False, True], ids=["a connection", "the database"])
def test_what_is_lost_in_an_evaluation_is_found_by_the_next(away: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rule()
    fail("orders")
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        [pid] = cursor.fetchone()

    def terminate() -> None:
        with connection.cursor() as cursor:
            cursor.execute("select pg_terminate_backend(%s, 5000)", [pid])
        connections.close_all()

    def lose(of: AlertRule, watched: list[str]) -> dict[str, float]:
        thread = threading.Thread(target=terminate)
        thread.start()
        thread.join()
        if away:
            monkeypatch.setitem(connection.settings_dict, "PORT", "1")
        return figures.figures(of, watched)

    monkeypatch.setattr(evaluation, "figures", lose)
    if away:
        with pytest.raises(Unavailable):
            evaluate()
    else:
        assert evaluate() == 0
    monkeypatch.undo()
    connection.close()
    assert evaluate() == 1
    assert firing() == {"topic orders"}


def test_evaluation_ends_when_the_process_does() -> None:
    rule()
    fail("orders")
    assert evaluate(lambda: False) == 0
    assert not Alert.objects.exists()


# -- the past -----------------------------------------------------------------------------------------------------


def test_old_alerts_are_forgotten_with_their_notifications() -> None:
    watching = rule()
    for source in ("old", "new", "firing"):
        fail(source)
    evaluate()
    settle("old")
    settle("new")
    evaluate()
    Alert.objects.filter(scope="topic old").update(resolved_at=F("resolved_at") - timedelta(days=91))
    AlertNotification.objects.create(rule=watching, event="test", channel="log")
    AlertNotification.objects.filter(event="test").update(created_at=timezone.now() - timedelta(days=91))
    assert evaluation.purge() == 1
    assert set(Alert.objects.values_list("scope", flat=True)) == {"topic new", "topic firing"}
    assert sorted(told(watching)) == [
        ("topic firing", "raised", "log"),
        ("topic new", "raised", "log"),
        ("topic new", "resolved", "log"),
    ]


def minutes(of: FailureGroup, *counts: int, ending_ago: int) -> None:
    """So many failures in each of some minutes that follow each other, the last one so many minutes ago."""
    now = timezone.now().replace(second=0, microsecond=0)
    for at, count in enumerate(counts):
        if count:
            moment = now - timedelta(minutes=ending_ago + len(counts) - 1 - at)
            FailureMinute.objects.create(failure_group_id=of.pk, minute=moment, failures=count)


def test_a_rule_on_growth_says_how_often_it_would_have_been_raised() -> None:
    orders, mailing, prices = failure_group("orders"), failure_group("orders", "mailing"), failure_group("prices")
    minutes(orders, 5, 9, 9, 0, 7, 4, ending_ago=10)
    minutes(mailing, 9, 9, ending_ago=100)
    minutes(prices, 50, ending_ago=50)
    minutes(prices, 50, ending_ago=60 * 25)
    assert figures.firings_of_a_day(rule("growth", threshold=7)) == 4
    assert figures.firings_of_a_day(rule("growth", threshold=9, source="ord*")) == 2
    assert figures.firings_of_a_day(rule("growth", threshold=7, for_seconds=120)) == 2
    assert figures.firings_of_a_day(rule("growth", threshold=7, group_name="mailing")) == 1
    assert figures.firings_of_a_day(rule("growth", threshold=1000)) == 0
    assert figures.firings_of_a_day(rule("depth")) is None
