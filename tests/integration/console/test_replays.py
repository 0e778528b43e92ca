"""Planning, applying and following replays in the console, by links and forms alone."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from brokers import groups
from brokers.audit import Actor
from brokers.groups import Subscription
from brokers.models import AuditEntry, ConsumerGroup, DeadLetter, GroupMember, ProcessedMessage, Replay, ReplayItem
from brokers.replays import controls, creation
from brokers.replays.request import Canary, Pace
from brokers.selectors import replays as replay_reads
from messaging_site.console.replay_words import standing
from tests.integration.brokers.replaying import Stage, ids, outcomes, run_until, state, states
from tests.integration.console.failing import HOSTILE, MOST_STATEMENTS, counted_statements, stage, text

SOMEBODY = Actor("somebody", "console")
NEW = "/admin/replays/new/"
FORM = {"to": "consumer", "reason": "the handler is mended", "count": "10", "min_success": "90", "action": "plan"}


@pytest.fixture
def delays(transactional_db: None) -> Stage:
    """The topic `departures`, on which the consumer group `delays` fails."""
    return stage()


def planned(client: Client, **form: str) -> int:
    """Makes a plan through the form; its replay's id."""
    response = client.post(NEW, FORM | form)
    assert response.status_code == 302, response.content.decode()
    return int(re.findall(r"/admin/replays/(\d+)/", response["Location"])[0])


def control(client: Client, replay: int, action: str, **form: str) -> str:
    response = client.post(f"/admin/replays/{replay}/control/", {"action": action} | form, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def start(replay: int) -> None:
    """Ends the moment of grace."""
    Replay.objects.filter(pk=replay).update(starts_at=timezone.now() - timedelta(seconds=1))


# -- planning -----------------------------------------------------------------------------------------------------


def test_a_plan_says_first_how_many_and_why_not_the_others(admin: Client, delays: Stage) -> None:
    letters = delays.letters(3)
    DeadLetter.objects.filter(pk=letters[0]).update(idempotency_key="k-1")
    ProcessedMessage.objects.create(consumer="delays", message_key="k-1")
    page = text(admin, f"{NEW}?all=1&group=delays")
    assert '<div class="will"><dt>Will be replayed</dt><dd>2</dd></div>' in page
    assert "<dt>Skipped: already processed</dt><dd>1</dd>" in page
    assert '<div class="sum"><dt>Selected</dt><dd>3</dd></div>' in page
    assert "Goes only to <strong>departures → delays</strong>" in page
    assert not Replay.objects.exists()


def test_checking_a_patch_shows_before_and_after_and_writes_nothing(admin: Client, delays: Stage) -> None:
    letter = delays.letter(value=b'{"flight":1,"fare":12345678901234567890123}')
    other = delays.letter(value=b"bytes", encoding=0)
    form = FORM | {"ids": f"{letter},{other}", "merge_patch": '{"cancelled":true}', "action": "check", "reason": ""}
    response = admin.post(NEW, form)
    page = html.unescape(response.content.decode())
    assert response.status_code == 200
    assert '"cancelled": true' in page
    assert '"fare": 12345678901234567890123' in page
    assert "not JSON, so it cannot be patched" in page
    assert not Replay.objects.exists()


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"reason": ""}, "id_reason_error"),
        ({"merge_patch": "[1]"}, "a merge patch is a JSON object"),
        ({"merge_patch": '{"a":'}, "id_merge_patch_error"),
        ({"rate_per_second": "0"}, "id_rate_per_second_error"),
        ({"rate_per_second": "NaN"}, "id_rate_per_second_error"),
        ({"canary": "on", "count": ""}, "id_count_error"),
        ({"canary": "on", "min_success": "101"}, "id_min_success_error"),
        ({"stop": "on", "stop_when_failed_again": ""}, "id_stop_when_failed_again_error"),
        ({"to": "topic", "topic": ""}, "id_topic_error"),
        ({"to": "topic", "topic": "absent"}, "id_topic_error"),
        ({"to": "moon"}, "id_to_error"),
    ],
)
def test_a_faulty_plan_is_explained_and_not_made(form: dict[str, str], says: str, admin: Client, delays: Stage) -> None:
    delays.letters(2)
    response = admin.post(NEW, FORM | {"all": "1", "group": "delays"} | form)
    assert response.status_code == 422
    assert says.lower() in response.content.decode().lower()
    assert not Replay.objects.exists()


@pytest.mark.parametrize("query", ["", "ids=", "ids=x", "ids=1e3", "all=1&state=lost", "ids=-1"])
def test_a_selection_that_names_nothing_goes_back_to_the_list(query: str, admin: Client) -> None:
    response = admin.get(f"{NEW}?{query}", follow=True)
    assert response.redirect_chain[0][0].startswith("/admin/dead-letters/list/")
    assert "notice-" in response.content.decode()


def test_ids_that_are_not_there_are_named(admin: Client, delays: Stage) -> None:
    page = text(admin, f"{NEW}?ids=4711")
    assert "There is no dead letter 4711. Nothing was sent." in page


def test_a_plan_warns_of_what_would_keep_it_from_arriving(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    path = f"{NEW}?ids={letter}"
    assert "has no members now" in text(admin, path)
    joined = groups.join(delays.group, Subscription((delays.topic,))).member_id
    member = GroupMember.objects.get(member_id=joined)
    assert "has no listener now, only members over HTTP" in text(admin, path)
    GroupMember.objects.filter(pk=member.pk).update(instance_id="handler#1.1")
    assert "notice-warning" not in text(admin, path)
    ConsumerGroup.objects.update(paused=True)
    assert "is paused" in text(admin, path)


def test_a_plan_warns_when_the_last_replay_of_the_group_failed_again(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    replay = creation.create(ids(letter))
    run_until(lambda: delays.in_lane() == 1)
    delays.consume(fails=lambda record: "no plane")
    fingerprint = DeadLetter.objects.get(pk=letter).failure_group.fingerprint
    page = text(admin, f"{NEW}?all=1&state=open&fingerprint={fingerprint}")
    assert f'<a href="/admin/replays/{replay}/">{replay}</a>, had 1 that failed again' in page


def test_a_large_selection_is_counted_when_its_plan_is_made(
    admin: Client, delays: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from messaging_site.console import replay_plans

    monkeypatch.setattr(replay_plans, "AT_ONCE", 5)
    delays.letters(6)
    page = text(admin, f"{NEW}?all=1&group=delays")
    assert "is counted when the plan is made" in page
    assert replay_reads.get(planned(admin, all="1", group="delays")).total == 6


def test_large_plans_begin_carefully_unless_told_otherwise(admin: Client, delays: Stage) -> None:
    delays.letters(2)
    assert 'name="canary" id="id_canary" checked' not in _flat(text(admin, f"{NEW}?all=1&group=delays"))
    delays.many(101)
    page = _flat(text(admin, f"{NEW}?all=1&group=delays"))
    assert re.search(r'name="canary"[^>]*checked', page)
    assert re.search(r'name="stop"[^>]*checked', page)


def _flat(page: str) -> str:
    return re.sub(r"\s+", " ", page)


# -- the plan on its page -----------------------------------------------------------------------------------------


def test_a_plan_is_frozen_and_waits_to_be_applied(admin: Client, delays: Stage) -> None:
    delays.letters(2)
    replay = planned(
        admin, all="1", group="delays", rate_per_second="50", canary="on", stop="on", stop_when_failed_again="20"
    )
    later = delays.letter()
    page = text(admin, f"/admin/replays/{replay}/")
    assert "Replay 2 dead letters</button>" in page
    assert "<dt>Failed since, not included</dt><dd>1</dd>" in page
    assert "expires in 14 min" in page
    assert "first 10; goes on when at least 90 % succeed" in page
    assert "more than 20 % of the last 50 fail again" in page
    assert "at most 50 /s" in page
    assert "the handler is mended" in page
    assert state(replay) == "planned"
    assert later not in outcomes(replay)


def test_applying_leaves_a_moment_to_take_it_back(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    replay = planned(admin, ids=str(letter))
    page = control(admin, replay, "apply")
    assert re.search(r"Starts in \d+ s", page)
    assert 'name="action" value="cancel">Undo</button>' in page
    assert state(replay) == "waiting"
    assert "Taken back. Nothing was sent." in control(admin, replay, "cancel")
    assert state(replay) == "cancelled"
    assert states([letter]) == ["open"]


def test_a_dropped_plan_sends_nothing(admin: Client, delays: Stage) -> None:
    replay = planned(admin, ids=str(delays.letter()))
    assert f"Plan {replay} was dropped. Nothing was sent." in control(admin, replay, "cancel")


def test_an_expired_plan_is_not_applied_but_made_anew(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    replay = planned(admin, ids=str(letter), merge_patch='{"a":1}', rate_per_second="5", canary="on")
    Replay.objects.filter(pk=replay).update(expires_at=timezone.now() - timedelta(seconds=1))
    page = text(admin, f"/admin/replays/{replay}/")
    assert "This plan has expired" in page
    again = html.unescape(re.findall(r'href="(/admin/replays/new/[^"]*)"', page)[0])
    form = text(admin, again)
    assert "{&quot;a&quot;:1}</textarea>" in form
    assert "has expired" in control(admin, replay, "apply")
    assert state(replay) in ("planned", "cancelled")


def test_one_dead_letter_is_replayed_by_one_button(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    page = text(admin, f"{NEW}?ids={letter}")
    assert "Replays 1 dead letter to consumer group <strong>delays</strong>" in page
    assert page.count('value="apply"') == 1
    replay = planned(admin, ids=str(letter), action="apply", reason="")
    assert state(replay) == "waiting"
    start(replay)
    run_until(lambda: delays.in_lane() == 1)
    delays.consume()
    assert states([letter]) == ["replayed"]
    found = text(admin, f"/admin/dead-letters/{letter}/")
    assert "handled by its consumer" in found
    assert "Succeeded" in text(admin, f"/admin/dead-letters/{letter}/?tab=history")


def test_one_that_would_be_skipped_says_why_and_has_no_button(admin: Client, delays: Stage) -> None:
    letter = delays.letter(idempotency_key="k-1")
    ProcessedMessage.objects.create(consumer="delays", message_key="k-1")
    page = text(admin, f"{NEW}?ids={letter}")
    assert "A replay would skip it: already processed." in page
    assert re.search(r'value="apply" disabled', page)


# -- under way ----------------------------------------------------------------------------------------------------


def test_progress_is_text_and_a_bar_and_leads_to_each_letter(admin: Client, delays: Stage) -> None:
    letters = [delays.letter(key=f"k{number}".encode()) for number in range(4)]
    replay = creation.create(delays.all, actor=SOMEBODY)
    run_until(lambda: delays.in_lane() == 4)
    page = text(admin, f"/admin/replays/{replay}/")
    assert "4 of 4 sent" in page
    assert "0 succeeded; 4 under way; 0 failed again" in page
    assert page.count("Under way") == 4
    delays.consume(fails=lambda record: "again" if record.key == "k1" else None)
    run_until(lambda: state(replay) == "completed")
    page = text(admin, f"/admin/replays/{replay}/")
    assert "3 succeeded; 0 under way; 1 failed again" in page
    assert 'aria-label="4 of 4 sent; 3 succeeded; 0 under way; 1 failed again"' in page
    assert "Completed with failures" in page
    assert all(f'href="/admin/dead-letters/{letter}/"' in page for letter in letters)
    failed = text(admin, f"/admin/replays/{replay}/?outcome=failed_again")
    assert re.findall(r'id="item-\d+" href="/admin/dead-letters/(\d+)/"', failed) == [str(letters[1])]
    assert "a new failure" in failed


def test_those_that_failed_again_are_planned_by_one_link(admin: Client, delays: Stage) -> None:
    letters = [delays.letter(key=f"k{number}".encode()) for number in range(3)]
    replay = creation.create(delays.all)
    run_until(lambda: delays.in_lane() == 3)
    delays.consume(fails=lambda record: None if record.key == "k0" else "no plane")
    response = admin.get(f"/admin/replays/{replay}/failed/")
    assert response["Location"] == f"{NEW}?ids={letters[1]},{letters[2]}"
    assert "Failed again" in text(admin, f"/admin/dead-letters/{letters[1]}/")


def test_nothing_failed_leads_back(admin: Client, delays: Stage) -> None:
    replay = creation.create(ids(delays.letter()))
    response = admin.get(f"/admin/replays/{replay}/failed/", follow=True)
    assert "Nothing of this replay has failed again" in response.content.decode()


def test_pause_resume_rate_and_cancel(admin: Client, delays: Stage) -> None:
    delays.letters(3)
    replay = creation.create(delays.all, pace=Pace(rate_per_second=0.01))
    run_until(lambda: replay_reads.get(replay).sent == 1)
    assert "Paused. What was sent goes on" in control(admin, replay, "pause")
    assert "Paused: nothing more is sent" in text(admin, f"/admin/replays/{replay}/")
    control(admin, replay, "resume")
    assert state(replay) == "running"
    assert "The rate was changed." in control(admin, replay, "rate", rate_per_second="0.02")
    assert replay_reads.get(replay).rate_per_second == 0.02
    page = text(admin, f"/admin/replays/{replay}/")
    assert "Cancel 2 dead letters</button>" in page
    assert "What was sent stays sent" in control(admin, replay, "cancel")
    page = text(admin, f"/admin/replays/{replay}/")
    assert "Plan again" in page
    assert page.count("cancelled before it was sent") == 2
    log = re.findall(r"<li><span>([^<]*)</span>", page.partition('id="log"')[2])
    assert log == ["Cancel", "Change rate", "Resume", "Pause", "Create"]
    assert AuditEntry.objects.filter(resource_type="replay", principal="admin").count() == 4


@pytest.mark.parametrize(
    ("action", "form"), [("rate", {"rate_per_second": "fast"}), ("rate", {"rate_per_second": "-1"}), ("explode", {})]
)
def test_a_faulty_command_changes_nothing(action: str, form: dict[str, str], admin: Client, delays: Stage) -> None:
    delays.letters(2)
    replay = creation.create(delays.all, pace=Pace(rate_per_second=0.01))
    assert "notice-error" in control(admin, replay, action, **form)
    assert replay_reads.get(replay).rate_per_second == 0.01


def test_what_is_over_cannot_be_paused(admin: Client, delays: Stage) -> None:
    replay = creation.create(ids(delays.letter()))
    controls.cancel(replay, actor=SOMEBODY)
    assert "cannot be paused" in control(admin, replay, "pause")


def test_a_failed_canary_says_why_it_stopped(admin: Client, delays: Stage) -> None:
    delays.letters(6)
    replay = creation.create(delays.all, pace=Pace(canary=Canary(2, 0.9)))
    run_until(lambda: delays.in_lane() == 2)
    assert "the first 2, then 90 % must have succeeded" in text(admin, f"/admin/replays/{replay}/")
    delays.consume(fails=lambda record: "no plane")
    run_until(lambda: state(replay) == "stopped")
    page = text(admin, f"/admin/replays/{replay}/")
    assert "Stopped by rule" in page
    assert "Canary failed" in page
    assert html.escape(replay_reads.get(replay).stop_cause)[1:] in page


def test_figures_never_exceed_the_plan_and_never_go_back(delays: Stage) -> None:
    delays.letters(5)
    replay = creation.create(delays.all)
    seen: list[tuple[int, int, int]] = []

    def look() -> bool:
        found = replay_reads.get(replay)
        figures = standing(found, replay_reads.progress(found))
        assert figures.succeeded + figures.failed_again + figures.under_way <= figures.total
        assert sum(segment.width for segment in figures.segments) <= 1000.1
        seen.append((figures.sent, figures.percent, figures.succeeded))
        delays.consume()
        return found.state == "completed"

    run_until(look)
    assert seen == sorted(seen)
    assert seen[-1] == (5, 100, 5)


def test_the_list_shows_replays_newest_first(admin: Client, delays: Stage) -> None:
    assert "No replay yet" in text(admin, "/admin/replays/")
    replays = [creation.create(ids(letter), reason=f"reason {letter}") for letter in delays.letters(3)]
    page = text(admin, "/admin/replays/")
    assert [int(number) for number in re.findall(r'id="replay-(\d+)"', page)] == replays[::-1]
    assert "0 of 1" in page
    assert '<span class="badge badge-info">3 running</span>' in page
    assert "There are no older replays" in text(admin, f"/admin/replays/?after={replays[0]}")


@pytest.mark.parametrize("path", ["999999/", "999999/failed/", "x/", "9223372036854775808/", "0/"])
def test_a_replay_that_is_not_there_is_not_found(path: str, admin: Client) -> None:
    assert admin.get(f"/admin/replays/{path}").status_code == 404


@pytest.mark.parametrize("query", ["outcome=odd", "after=x", "after=99999999999999999999"])
def test_an_odd_address_shows_the_first_page(query: str, admin: Client, delays: Stage) -> None:
    replay = creation.create(ids(delays.letter()))
    assert 'id="item-0"' in text(admin, f"/admin/replays/{replay}/?{query}")


def test_hostile_texts_stay_texts(admin: Client, delays: Stage) -> None:
    letter = delays.letter(key=HOSTILE.encode(), value=b'{"a":1}', message_id=HOSTILE[:200])
    patch = '{"x": "</pre><script>document.title=1</script>"}'
    replay = planned(admin, ids=str(letter), reason=HOSTILE.replace("\x1b", ""), merge_patch=patch)
    pages = [f"/admin/replays/{replay}/", "/admin/replays/"]
    page = "".join(text(admin, path) for path in pages)
    control(admin, replay, "apply")
    Replay.objects.filter(pk=replay).update(stop_cause=HOSTILE)
    page += "".join(text(admin, path) for path in pages)
    assert "<script>document" not in page
    assert "<img src=x" not in page


def test_an_item_whose_letter_was_removed_still_shows_its_outcome(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    replay = creation.create(ids(letter))
    ReplayItem.objects.filter(replay_id=replay).update(dead_letter_id=letter + 1000)
    assert "removed since" in text(admin, f"/admin/replays/{replay}/")


@pytest.mark.parametrize(
    "path",
    [
        f"{NEW}?all=1&state=open&fingerprint={{fingerprint}}",
        f"{NEW}?ids={{letter}}",
        "/admin/replays/",
        "/admin/replays/{planned}/",
        "/admin/replays/{running}/",
        "/admin/replays/{running}/?outcome=waiting",
    ],
)
def test_a_page_costs_few_statements_whatever_it_shows(path: str, admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    delays.many(60)
    fingerprint = DeadLetter.objects.get(pk=letter).failure_group.fingerprint
    running = creation.create(delays.all)
    others = {"planned": planned(admin, all="1", group="delays", fingerprint=fingerprint), "running": running}
    run_until(lambda: delays.in_lane() == 61)
    path = path.format(letter=letter, fingerprint=fingerprint, **others)
    text(admin, path)
    with counted_statements() as sent:
        text(admin, path)
    assert len(sent) <= MOST_STATEMENTS, "\n".join(sent)
