"""Who sees dead letters and replays in the console, whose payloads, and who may change and replay them."""

from __future__ import annotations

import pytest
from django.test import Client

from brokers.models import DeadLetter
from brokers.replays import creation
from tests.integration.brokers.replaying import Stage, ids, states
from tests.integration.console.failing import signed_in, stage, text

LIST = "/admin/dead-letters/list/"


@pytest.fixture
def delays(transactional_db: None) -> Stage:
    """The topic `departures`, on which the consumer group `delays` fails."""
    return stage()


@pytest.fixture
def letter(delays: Stage) -> int:
    """A dead letter whose payload holds a secret."""
    return delays.letter(key=b"secret-key", value=b'{"card":"secret-value"}', headers={"h": "secret-header"})


def test_strangers_are_sent_to_the_login(letter: int) -> None:
    for path in (
        "/admin/dead-letters/",
        LIST,
        f"/admin/dead-letters/{letter}/",
        "/admin/replays/",
        "/admin/replays/1/",
    ):
        assert Client().get(path)["Location"].startswith("/admin/login/?next=")


def test_without_describe_on_the_group_nothing_tells_that_there_is_anything(letter: int) -> None:
    client = signed_in("read:topic/departures", "describe:group/other")
    replay = creation.create(ids(letter))
    for path in ("/admin/dead-letters/", LIST, "/admin/replays/", "/admin/"):
        page = text(client, path)
        assert "LookupError" not in page, path
        assert "→ delays" not in page, path
        assert "badge" not in page, path
    for path in (f"/admin/dead-letters/{letter}/", f"/admin/dead-letters/{letter}/edit/", f"/admin/replays/{replay}/"):
        response = client.get(path)
        assert response.status_code == 404, path
        assert "delays" not in response.content.decode()
    for path in (f"/admin/dead-letters/{letter}/change/", f"/admin/replays/{replay}/control/"):
        assert client.post(path, {"action": "cancel"}).status_code == 404
    fingerprint = DeadLetter.objects.get(pk=letter).failure_group.fingerprint
    assert client.get(f"{LIST}?fingerprint={fingerprint}").status_code == 404


def test_describe_shows_everything_but_payloads(letter: int) -> None:
    client = signed_in("describe:group/delays")
    path = f"/admin/dead-letters/{letter}/"
    pages = [text(client, f"{path}?tab={tab}") for tab in ("message", "headers", "error", "attempts", "history")]
    pages += [text(client, LIST), text(client, "/admin/dead-letters/")]
    for page in pages:
        assert "secret" not in page
    assert "You lack: view_payload on topic departures" in pages[0]
    assert "LookupError" in pages[0]
    assert client.get(f"{path}value").status_code == 403


@pytest.mark.parametrize("grant", ["view_payload:topic/departures", "read:topic/depart*"])
def test_payloads_are_shown_to_who_may_read_the_topic(grant: str, letter: int) -> None:
    client = signed_in("describe:group/delays", grant)
    page = text(client, f"/admin/dead-letters/{letter}/")
    assert "secret-value" in page
    assert "secret-key" in page
    assert "secret-key" in text(client, LIST)


def test_text_is_not_looked_for_in_the_keys_of_hidden_payloads(letter: int) -> None:
    client = signed_in("describe:group/delays")
    assert "No dead letter matches" in text(client, f"{LIST}?q=secret-key")


def test_without_replay_buttons_stay_and_say_what_is_missing(letter: int) -> None:
    client = signed_in("describe:group/delays", "read:topic/departures")
    page = text(client, f"/admin/dead-letters/{letter}/")
    assert page.count('aria-disabled="true" title="You lack: replay on group delays"') == 4
    assert "/edit/" not in page
    fingerprint = DeadLetter.objects.get(pk=letter).failure_group.fingerprint
    for path in ("/admin/dead-letters/", f"{LIST}?fingerprint={fingerprint}"):
        assert 'aria-disabled="true" title="You lack: replay on group delays"' in text(client, path)


def test_without_replay_nothing_is_changed_edited_or_replayed(letter: int) -> None:
    client = signed_in("describe:group/delays", "read:topic/departures", "replay:group/other")
    replay = creation.create(ids(letter), planned=True)
    path = f"/admin/dead-letters/{letter}/"
    assert client.post(f"{path}change/", {"action": "discard"}).status_code == 403
    assert client.post(f"{path}edit/", {"value": "1"}).status_code == 403
    assert client.get(f"{path}edit/").status_code == 403
    assert client.post("/admin/dead-letters/change/", {"action": "discard", "ids": str(letter)}).status_code == 403
    assert client.get(f"/admin/replays/new/?ids={letter}").status_code == 403
    assert (
        client.post("/admin/replays/new/", {"ids": str(letter), "to": "consumer", "action": "apply"}).status_code == 403
    )
    assert client.post(f"/admin/replays/{replay}/control/", {"action": "apply"}).status_code == 403
    assert states([letter]) == ["open"]


def test_a_replay_needs_replay_on_every_group_of_its_selection(delays: Stage, letter: int) -> None:
    crew = Stage(delays.topic, "crew").letter(offset=900)
    client = signed_in("replay:group/delays", "describe:group/crew")
    response = client.get(f"/admin/replays/new/?ids={letter},{crew}")
    assert response.status_code == 403
    assert "Replay on group crew" in response.content.decode()
    assert client.get(f"/admin/replays/new/?ids={letter}").status_code == 200


def test_everything_that_matches_is_what_the_reader_may_see(delays: Stage, letter: int) -> None:
    Stage(delays.topic, "crew").letter(offset=900)
    client = signed_in("replay:group/delays")
    page = text(client, "/admin/replays/new/?all=1&state=open")
    assert "crew" not in page
    assert '<div class="will"><dt>Will be replayed</dt><dd>1</dd></div>' in page


def test_editing_and_patching_need_sight_of_the_payload(letter: int) -> None:
    client = signed_in("replay:group/delays")
    assert client.get(f"/admin/dead-letters/{letter}/edit/").status_code == 403
    page = text(client, f"/admin/dead-letters/{letter}/")
    assert 'title="You lack: view_payload on topic departures">Edit</span>' in page
    plan = text(client, f"/admin/replays/new/?ids={letter}")
    assert "secret" not in plan
    assert "Not shown. You lack: view_payload on topic departures" in plan
    form = {"ids": str(letter), "to": "consumer", "merge_patch": '{"a":1}', "action": "apply"}
    assert client.post("/admin/replays/new/", form).status_code == 403
    assert states([letter]) == ["open"]


def test_publishing_anew_needs_write_on_that_topic(letter: int) -> None:
    client = signed_in("replay:group/delays", "describe:topic/departures")
    form = {"ids": str(letter), "to": "topic", "topic": "departures", "action": "apply"}
    response = client.post("/admin/replays/new/", form)
    assert response.status_code == 403
    assert "Write on topic departures" in response.content.decode()


def test_a_replay_is_seen_by_who_may_see_all_its_consumers(delays: Stage, letter: int) -> None:
    crew = Stage(delays.topic, "crew").letter(offset=900)
    replay = creation.create(ids(letter, crew))
    half = signed_in("replay:group/delays")
    assert half.get(f"/admin/replays/{replay}/").status_code == 404
    assert f'href="/admin/replays/{replay}/"' not in text(half, "/admin/replays/")
    both = signed_in("describe:group/delays", "describe:group/crew")
    page = text(both, f"/admin/replays/{replay}/")
    assert 'aria-disabled="true" title="You lack: replay on group' in page
    assert "secret" not in page
    assert both.post(f"/admin/replays/{replay}/control/", {"action": "cancel"}).status_code == 403
