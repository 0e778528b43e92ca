"""Cookies of the console: Secure over HTTPS, usable over plain HTTP on loopback."""

from __future__ import annotations

import pytest
from django.test import Client


@pytest.mark.django_db
@pytest.mark.parametrize("secure", [False, True])
def test_a_cookie_is_secure_exactly_when_the_request_was(secure: bool) -> None:
    response = Client().get("/admin/login/", secure=secure)
    assert response.status_code == 200
    assert [bool(cookie["secure"]) for cookie in response.cookies.values()] == [secure]
    assert all(cookie["httponly"] and cookie["samesite"] == "Lax" for cookie in response.cookies.values())
