"""What live push forgets, and what it keeps."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection

from brokers import housekeeping as house
from brokers.housekeeping import run_alone
from realtime import Progress, housekeeping, notify
from realtime.models import Inbox, Notification, ProgressRow, StreamTicket

pytestmark = pytest.mark.django_db(transaction=True)


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_the_listeners_do_it() -> None:
    assert housekeeping.JOB in house._further
    assert housekeeping.JOB in house.Background()._housekeeper._due
    assert housekeeping.JOB.number not in {
        job.number for job in house.QUICK + house.SLOW + house.QUEUES + house.OUTWARD
    }


def test_what_is_past_its_time_is_forgotten() -> None:
    for n in range(3):
        notify("ann", n)
    execute("update realtime_notification set created_at = now() - interval '31 days' where number < 3")
    kept, old = Progress("Kept", user="ann"), Progress("Old", user="ann")
    execute(f"update realtime_progress set updated_at = now() - interval '8 days' where id = '{old.id}'")
    for digest, expires in (("a", "now() - interval '1 second'"), ("b", "now() + interval '1 minute'")):
        execute(f"insert into realtime_stream_ticket values ('{digest}', 'token', {expires})")
    assert run_alone(housekeeping.JOB) == 4
    assert list(Notification.objects.values_list("number", flat=True)) == [3]
    assert list(ProgressRow.objects.values_list("id", flat=True)) == [kept.id]
    assert [bytes(ticket.digest) for ticket in StreamTicket.objects.all()] == [b"b"]
    assert run_alone(housekeeping.JOB) == 0
    assert notify("ann", "next") == 4


def test_many_are_forgotten_in_pieces_until_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "_ROWS", 2)
    for n in range(5):
        notify("ann", n)
    execute("update realtime_notification set created_at = now() - interval '31 days'")
    asked = iter([True, False])
    assert housekeeping.purge(lambda: next(asked)) == 2
    assert housekeeping.purge() == 3


def test_what_is_a_deleted_users_is_forgotten_with_them() -> None:
    ann = User.objects.create_user("ann")
    notify(ann, 1)
    notify("bob", 1)
    Progress("Import", user=ann)
    ann.delete()
    assert list(Inbox.objects.values_list("user_name", flat=True)) == ["bob"]
    assert Notification.objects.count() == 1
    assert not ProgressRow.objects.exists()
