"""Resolving, discarding, reopening, noting and editing dead letters in the console, one and many."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from brokers import dead_letter_bulk, dead_letters
from brokers.audit import Actor
from brokers.models import AuditEntry, DeadLetter, DeadLetterRevision
from tests.integration.brokers.replaying import Stage, ids, states
from tests.integration.console.failing import stage, text

SOMEBODY = Actor("somebody", "console")
BULK = "/admin/dead-letters/change/"


@pytest.fixture
def delays(transactional_db: None) -> Stage:
    """The topic `departures`, on which the consumer group `delays` fails."""
    return stage()


def change(client: Client, letter: int, action: str, **form: str) -> str:
    response = client.post(f"/admin/dead-letters/{letter}/change/", {"action": action} | form, follow=True)
    assert response.status_code == 200
    return response.content.decode()


# -- one ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "state"), [("resolve", "resolved"), ("discard", "discarded")])
def test_one_is_settled_at_once_and_can_be_taken_back(action: str, state: str, admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    page = change(admin, letter, action)
    assert states([letter]) == [state]
    assert f"Dead letter {letter} was {state}." in page
    assert 'form="change-form" name="action" value="reopen">Undo</button>' in page
    assert 'id="change-form"' in page
    change(admin, letter, "reopen")
    assert states([letter]) == ["open"]
    entries = AuditEntry.objects.filter(resource_type="dead_letter").order_by("id")
    audited = list(entries.values_list("operation", "principal", "surface"))
    assert audited == [(action, "admin", "console"), ("reopen", "admin", "console")]


def test_a_note_is_kept_and_shown(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    assert "The note was saved." in change(admin, letter, "note", note="  ask the airline <soon>  ")
    assert DeadLetter.objects.get(pk=letter).note == "ask the airline <soon>"
    assert "ask the airline &lt;soon&gt;" in text(admin, f"/admin/dead-letters/{letter}/")


@pytest.mark.parametrize("state", ["replaying", "replayed"])
def test_what_a_replay_has_is_left_to_it(state: str, admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    DeadLetter.objects.filter(pk=letter).update(state=state)
    page = change(admin, letter, "discard")
    assert "notice-error" in page
    assert states([letter]) == [state]
    assert ">Discard</button>" not in page


@pytest.mark.parametrize("action", ["", "delete", "replayed"])
def test_an_unknown_action_changes_nothing(action: str, admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    assert "No such action." in change(admin, letter, action)
    assert states([letter]) == ["open"]


def test_changes_are_by_post_only(admin: Client, delays: Stage) -> None:
    assert admin.get(f"/admin/dead-letters/{delays.letter()}/change/").status_code == 405


# -- many ---------------------------------------------------------------------------------------------------------


def fields(page: str) -> dict[str, str]:
    """The hidden fields of the form that asks."""
    form = page.partition('<form class="form card-body"')[2].partition("</form>")[0]
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))


def test_a_few_are_asked_about_in_one_sentence(admin: Client, delays: Stage) -> None:
    letters = delays.letters(3)
    path = f"{BULK}?action=resolve&ids={letters[0]}&ids={letters[1]}"
    page = text(admin, path)
    assert "Resolve 2 dead letters</button>" in page
    assert "departures → delays" in page
    assert states(letters) == ["open"] * 3
    response = admin.post(BULK, fields(page), follow=True)
    assert "2 dead letters were resolved." in response.content.decode()
    assert states(letters) == ["resolved", "resolved", "open"]


def test_many_are_a_plan_with_a_reason(admin: Client, delays: Stage) -> None:
    delays.many(150)
    page = text(admin, f"{BULK}?action=discard&all=1&group=delays")
    assert "Discard 150 dead letters</button>" in page
    assert "what fails from now on" in page
    refused = admin.post(BULK, fields(page))
    assert refused.status_code == 422
    assert not DeadLetter.objects.filter(state="discarded").exists()
    response = admin.post(BULK, fields(page) | {"reason": "an old import"}, follow=True)
    assert "150 dead letters were discarded." in response.content.decode()
    assert set(DeadLetter.objects.values_list("state", "note")) == {("discarded", "an old import")}


def test_what_fails_after_the_question_is_left_alone(admin: Client, delays: Stage) -> None:
    delays.letters(2)
    asked = fields(text(admin, f"{BULK}?action=resolve&all=1&group=delays"))
    later = delays.letter()
    admin.post(BULK, asked)
    assert states([later]) == ["open"]
    assert DeadLetter.objects.filter(state="resolved").count() == 2


def test_nobody_can_ask_about_what_is_yet_to_come(admin: Client, delays: Stage) -> None:
    asked = fields(text(admin, f"{BULK}?action=resolve&all=1&group={delays.group}&x={delays.letter()}"))
    far = str(round((timezone.now() + timedelta(days=1)).timestamp() * 1000))
    assert admin.post(BULK, asked | {"frozen_at": far}).status_code == 302
    assert admin.post(BULK, asked | {"frozen_at": "soon"}).status_code in (200, 302)


def test_those_in_another_state_are_counted_and_stay(admin: Client, delays: Stage) -> None:
    letters = delays.letters(3)
    DeadLetter.objects.filter(pk=letters[0]).update(state="replaying")
    page = text(admin, f"{BULK}?action=resolve&ids={','.join(map(str, letters))}")
    assert "1: in another state" in page
    admin.post(BULK, fields(page))
    assert states(letters) == ["replaying", "resolved", "resolved"]


def test_nothing_to_change_is_said(admin: Client, delays: Stage) -> None:
    page = text(admin, f"{BULK}?action=reopen&ids={delays.letter()}")
    assert "Nothing to reopen" in page


def test_reopening_takes_resolved_and_discarded_ones(admin: Client, delays: Stage) -> None:
    letters = delays.letters(2)
    dead_letters.change_state(letters[:1], "resolved", SOMEBODY)
    dead_letters.change_state(letters[1:], "discarded", SOMEBODY)
    page = text(admin, f"{BULK}?action=reopen&all=1&group=delays")
    admin.post(BULK, fields(page))
    assert states(letters) == ["open", "open"]


@pytest.mark.parametrize(
    "query", ["action=resolve", "action=resolve&ids=x", "action=burn&ids=1", "action=resolve&all=1&state=x"]
)
def test_a_selection_that_names_nothing_goes_back_to_the_list(query: str, admin: Client, delays: Stage) -> None:
    response = admin.get(f"{BULK}?{query}", follow=True)
    assert response.redirect_chain[0][0].startswith("/admin/dead-letters/list/")
    assert "notice-" in response.content.decode()


def test_a_bulk_change_goes_in_steps_and_leaves_out_what_is_replayed(delays: Stage) -> None:
    delays.many(2500)
    taken = DeadLetter.objects.order_by("-failed_at", "-id").values_list("pk", flat=True)[5]
    DeadLetter.objects.filter(pk=taken).update(state="replaying")
    done = dead_letter_bulk.change(delays.all, "resolved", lambda *consumer: True, SOMEBODY, None)
    assert done == 2499
    assert states([taken]) == ["replaying"]


def test_a_bulk_change_touches_nothing_that_the_caller_may_not_see(delays: Stage) -> None:
    letter = delays.letter()
    assert dead_letter_bulk.change(ids(letter), "resolved", lambda *consumer: False, SOMEBODY, None) == 0
    assert states([letter]) == ["open"]


# -- editing ------------------------------------------------------------------------------------------------------


def edit(client: Client, letter: int, **form: str) -> tuple[int, str]:
    given = {"revision": "1", "key": "k", "kind": "json", "value": '{"n":1}', "headers": "", "action": "save"}
    response = client.post(f"/admin/dead-letters/{letter}/edit/", given | form, follow=True)
    return response.status_code, response.content.decode()


def revisions(letter: int) -> list[tuple[bytes | None, bytes | None, int]]:
    found = DeadLetterRevision.objects.filter(dead_letter_id=letter).order_by("number")
    return [
        (None if key is None else bytes(key), None if value is None else bytes(value), encoding)
        for key, value, encoding in found.values_list("key", "value", "encoding")
    ]


def test_the_form_shows_both_and_says_whom_it_concerns(admin: Client, delays: Stage) -> None:
    letter = delays.letter(value=b'{"fare":12345678901234567890123}', headers={"source": "web"})
    page = text(admin, f"/admin/dead-letters/{letter}/edit/")
    assert page.count("12345678901234567890123") == 2
    assert "changes only the copy that is delivered to group <strong>delays</strong>" in page
    assert "source: web" in page


def test_saving_makes_a_revision_and_leads_to_its_plan(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    status, page = edit(admin, letter, value='{"n":2}', key="other", headers="source: desk")
    assert status == 200
    assert "Saved as revision 2." in page
    assert "Replay this dead letter" in page
    assert revisions(letter) == [(b"k", b'{"n":1}', 1), (b"other", b'{"n":2}', 1)]


def test_comparing_saves_nothing_and_shows_what_differs(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    status, page = edit(admin, letter, value='{"n":2}', key="other", headers="a: b", action="check")
    assert status == 200
    assert "not saved yet" in page
    assert 'class="diff-line changed"' in page
    assert "other" in page
    assert len(revisions(letter)) == 1


def test_laying_out_changes_no_value(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    _, page = edit(admin, letter, value='{"n":1e400,"n":2}'.replace(',"n":2', ""), action="format")
    assert "422" not in page
    _, page = edit(admin, letter, value='{"n":[1,2]}', action="format")
    assert "&quot;n&quot;: [\n    1,\n    2\n  ]" in page


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"value": '{"n":'}, "id_value_error"),
        ({"value": '{"n":1,"n":2}'}, "id_value_error"),
        ({"kind": "tombstone", "value": "x"}, "A tombstone has no value"),
        ({"headers": "no colon"}, "Line 1 is not of the form"),
        ({"headers": "a: 1\na: 2"}, "a second time"),
    ],
)
def test_a_faulty_edit_is_explained_and_not_saved(
    form: dict[str, str], says: str, admin: Client, delays: Stage
) -> None:
    letter = delays.letter()
    status, page = edit(admin, letter, **form)
    assert status == 422
    assert says in page
    assert len(revisions(letter)) == 1


def test_an_edit_that_changes_nothing_is_not_saved(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    status, page = edit(admin, letter)
    assert status == 422
    assert "there is nothing to save" in page
    assert len(revisions(letter)) == 1


def test_whoever_edits_an_older_revision_sees_both(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    dead_letters.add_revision(letter, 1, b"k", b'{"n":"theirs"}', 1, {}, "edit", SOMEBODY)
    status, page = edit(admin, letter, value='{"n":"mine"}')
    assert status == 409
    assert "somebody</strong> saved revision 2" in page
    assert "theirs" in page
    assert "mine" in page
    assert len(revisions(letter)) == 2
    parameters = dict(re.findall(r'<textarea name="(\w+)" hidden>\n([^<]*)</textarea>', page))
    assert parameters["revision"] == "2"
    status, _ = edit(admin, letter, value='{"n":"mine"}', revision=parameters["revision"])
    assert status == 200
    assert revisions(letter)[-1][1] == b'{"n":"mine"}'


def test_bytes_keep_their_value_when_only_headers_change(admin: Client, delays: Stage) -> None:
    letter = delays.letter(key=b"\xff\x00", value=b"\xfe\x01", encoding=0)
    page = text(admin, f"/admin/dead-letters/{letter}/edit/")
    assert "bytes that are no text" in page
    form = {"revision": "1", "headers": "source: mended", "action": "save"}
    assert admin.post(f"/admin/dead-letters/{letter}/edit/", form).status_code == 302
    assert revisions(letter)[-1] == (b"\xff\x00", b"\xfe\x01", 0)


def test_a_tombstone_can_be_made_and_given_a_value(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    edit(admin, letter, kind="tombstone", value="")
    edit(admin, letter, revision="2", kind="text", value="plain")
    assert [value for _, value, _ in revisions(letter)] == [b'{"n":1}', None, b"plain"]


def test_only_open_ones_are_edited(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    dead_letters.change_state([letter], "resolved", SOMEBODY)
    response = admin.get(f"/admin/dead-letters/{letter}/edit/", follow=True)
    assert "only open ones can be edited" in response.content.decode()
