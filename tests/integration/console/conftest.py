"""Signed-in clients of the console and a topic to look at."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from brokers import publishing, topics
from brokers.models import Grant

PASSWORD = "correct-horse-battery"


@pytest.fixture(autouse=True)
def _quick_logins(settings: LazySettings) -> None:
    """No failed logins are remembered, and hashing a password takes no time."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    cache.clear()


@pytest.fixture
def admin(transactional_db: None) -> Client:
    """A superuser's client, just signed in through the login page."""
    User.objects.create_superuser("admin", password=PASSWORD)
    client = Client()
    response = client.post("/admin/login/", {"username": "admin", "password": PASSWORD})
    assert response.status_code == 302
    return client


@pytest.fixture
def staff(transactional_db: None) -> Callable[..., Client]:
    """Makes the client of a member of staff with grants on topics: `operation:name` or `operation:prefix*`."""

    def sign_in(*grants: str) -> Client:
        user = User.objects.create_user("staff", password=PASSWORD, is_staff=True)
        for grant in grants:
            operation, _, name = grant.partition(":")
            match = "prefix" if name.endswith("*") else "literal"
            Grant.objects.create(
                user=user, operation=operation, resource_type="topic", name=name.rstrip("*"), match=match
            )
        client = Client()
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def orders(transactional_db: None) -> str:
    """The topic `orders` of two partitions with three records."""
    topics.create("orders", partitions=2)
    publishing.publish_many(
        "orders",
        [
            {"value": {"n": 1}, "key": "a", "partition": 0, "timestamp": 1000, "headers": {"source": "web"}},
            {"value": {"n": 2}, "key": "b", "partition": 1, "timestamp": 2000},
            {"value": {"n": 3}, "key": "a", "partition": 0, "timestamp": 3000},
        ],
    )
    return "orders"
