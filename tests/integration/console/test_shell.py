"""What every page of the console has: its frame, its headers, theme and shortcuts, signing in and out."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.integration.console.conftest import PASSWORD

PAGES = (
    "/admin/",
    "/admin/topics/",
    "/admin/topics/?q=zzz",
    "/admin/new-topic/",
    "/admin/topics/orders/",
    "/admin/topics/orders/?open=0:0",
    "/admin/topics/orders/?start=earliest&partition=1",
    "/admin/topics/orders/records/0/0/",
    "/admin/topics/orders/partitions/",
    "/admin/topics/orders/settings/",
    "/admin/topics/orders/delete/",
    "/admin/topics/orders/publish/",
    "/admin/exchanges/",
    "/admin/new-exchange/",
    "/admin/queues/",
    "/admin/queues/?only=growing",
    "/admin/new-queue/",
    "/admin/policies/",
    "/admin/new-policy/",
    "/admin/dead-letters/",
    "/admin/dead-letters/?state=resolved",
    "/admin/dead-letters/list/",
    "/admin/replays/",
    "/admin/connections/",
    "/admin/alerts/",
    "/admin/brokers/alertrule/",
    "/admin/brokers/alertrule/add/",
    "/admin/brokers/",
    "/admin/auth/user/",
    "/admin/auth/user/add/",
    "/admin/auth/group/",
    "/admin/auth/",
    "/admin/password_change/",
)


class Page(HTMLParser):
    """Collects what the checks below ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.landmarks: list[str] = []
        self.headings = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.inline += [f"{tag}[{name}]" for name in names if name == "style" or name.startswith("on")]
        self.inline += [tag] if tag == "style" or (tag == "script" and "src" not in names) else []
        self.ids += [names["id"] or ""] if "id" in names else []
        self.landmarks += [tag] if tag in ("main", "nav", "header") else []
        self.headings += tag == "h1"


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_the_frame_and_nothing_inline(path: str, admin: Client, orders: str) -> None:
    response = admin.get(path)
    assert response.status_code == 200
    page = Page(response.content.decode())
    assert page.inline == []
    assert len(page.ids) == len(set(page.ids))
    assert page.headings == 1
    assert page.landmarks.count("main") == page.landmarks.count("header") == 1
    assert 'href="#main"' in response.content.decode()


@pytest.mark.parametrize("path", [*PAGES, "/admin/login/", "/admin/topics/absent/"])
def test_every_page_is_kept_out_of_caches_and_under_the_policy(path: str, admin: Client, orders: str) -> None:
    response = admin.get(path)
    assert "no-store" in response["Cache-Control"]
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/admin/", "/admin/topics/", "/admin/topics/orders/"])
def test_a_page_is_small(path: str, admin: Client, orders: str) -> None:
    assert len(admin.get(path).content) < 60_000


def test_the_theme_is_drawn_by_the_server_and_kept(admin: Client) -> None:
    assert "data-theme" not in admin.get("/admin/").content.decode()
    response = admin.post("/admin/preferences/", {"theme": "dark", "next": "/admin/topics/?q=a"})
    assert (response.status_code, response["Location"]) == (302, "/admin/topics/?q=a")
    assert '<html lang="en" data-theme="dark"' in admin.get("/admin/").content.decode()
    assert 'data-theme="dark"' in admin.get("/admin/auth/user/").content.decode()


def test_shortcuts_can_be_switched_off(admin: Client) -> None:
    admin.post("/admin/preferences/", {"keys": "off"})
    assert 'data-keys="off"' in admin.get("/admin/").content.decode()


@pytest.mark.parametrize("target", ["//evil.example/", "https://evil.example/", "javascript:alert(1)", ""])
def test_a_preference_never_leads_elsewhere(target: str, admin: Client) -> None:
    assert admin.post("/admin/preferences/", {"theme": "dark", "next": target})["Location"] == "/admin/"


@pytest.mark.parametrize("form", [{}, {"theme": "pink"}, {"theme": "dark", "keys": "perhaps"}])
def test_a_preference_that_does_not_exist_is_refused(form: dict[str, str], admin: Client) -> None:
    assert admin.post("/admin/preferences/", form).status_code == 400


@pytest.mark.parametrize("path", ["/admin/preferences/", "/admin/logout/"])
def test_changes_are_by_post_only(path: str, admin: Client) -> None:
    assert admin.get(path).status_code == 405


@pytest.mark.parametrize("path", ["/admin/preferences/", "/admin/new-topic/", "/admin/topics/orders/publish/"])
def test_a_form_without_its_csrf_token_is_refused(path: str, orders: str, transactional_db: None) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("admin"))
    response = client.post(path, {"theme": "dark", "name": "x"})
    assert response.status_code == 403
    assert "form has expired" in response.content.decode()


def test_signing_out_ends_the_session(admin: Client) -> None:
    assert "You are signed out" in admin.post("/admin/logout/").content.decode()
    assert admin.get("/admin/").status_code == 302


def test_a_login_never_leads_elsewhere(transactional_db: None) -> None:
    User.objects.create_superuser("admin", password=PASSWORD)
    form = {"username": "admin", "password": PASSWORD, "next": "//evil.example/"}
    assert Client().post("/admin/login/?next=//evil.example/", form)["Location"] == "/admin/"


def test_failed_logins_are_slowed_for_known_and_unknown_names_alike(transactional_db: None) -> None:
    User.objects.create_superuser("admin", password=PASSWORD)
    for name in ("admin", "nobody"):
        client = Client()
        texts = []
        for _ in range(6):
            page = client.post("/admin/login/", {"username": name, "password": "wrong"}).content.decode()
            texts.append(re.sub(r"\s+", " ", page))
        assert "Please enter the correct" in texts[4]
        assert "Too many failed attempts" in texts[5]
    locked = Client().post("/admin/login/", {"username": "admin", "password": PASSWORD})
    assert "Too many failed attempts" in locked.content.decode()


@pytest.mark.parametrize("name", ["a\x00b", "x" * 10_000, "\ud83d", "' or 1=1 --"])
def test_odd_names_cannot_break_the_login(name: str, transactional_db: None) -> None:
    data = f"username={name.encode('utf-8', 'surrogatepass').hex()}".encode()
    assert Client().post("/admin/login/", data, content_type="application/x-www-form-urlencoded").status_code == 200
    response = Client().post("/admin/login/", {"username": name.encode("utf-8", "replace").decode(), "password": "p"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/admin/topics/..%2f..%2f/",
        "/admin/topics/a b/",
        "/admin/topics/%00/",
        "/admin/nothing/",
        f"/admin/topics/{'x' * 250}/",
    ],
)
def test_addresses_that_name_nothing_are_not_found(path: str, admin: Client) -> None:
    assert admin.get(path).status_code == 404
