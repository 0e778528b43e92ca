"""What the environment variables mean, and how a wrong one is refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from messaging_site import environment
from messaging_site.environment import Environment, Refusal
from messaging_site.mail import NO_SERVER, MailServer

BASE = Path("/srv/project")
SECRET = "canary-9f2b7c1d4e8a"
PRODUCTION = {
    "DJANGO_DEBUG": "0",
    "DJANGO_SECRET_KEY": SECRET * 3,
    "DJANGO_ALLOWED_HOSTS": "messages.example.org",
    "DATABASE_URL": "postgresql://waystation@db/waystation",
}


def read(**environ: str) -> Environment:
    return environment.read(environ, BASE)


def refusal_of(action: Callable[[], object]) -> str:
    with pytest.raises(Refusal) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_defaults_are_those_of_the_documentation() -> None:
    found = read()
    assert (found.host, found.port, found.data_dir) == ("127.0.0.1", 8000, BASE / "var")
    assert (found.web_processes, found.listener_processes) == (1, 1)
    assert found.database_url is found.redis_url is found.secret_key is None
    assert found.admin_password is found.admin_token is None
    assert found.apps == ("examples.flights",)
    assert (found.processed_days, found.mail, found.mail_from) == (30, NO_SERVER, "waystation@localhost")
    assert (found.allowed_origins, found.connections_per_user) == ((), 1000)
    assert found.debug is False
    assert found.allowed_hosts == ("localhost", "127.0.0.1", "[::1]")
    assert found.is_production is False


def test_the_example_is_left_out_beside_a_database_of_ones_own() -> None:
    url = "postgresql://waystation@db/waystation"
    assert read(DATABASE_URL=url).apps == ()
    assert read(DATABASE_URL=url, WAYSTATION_APPS="orders, billing.core").apps == ("orders", "billing.core")
    assert read(WAYSTATION_APPS="").apps == ()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("data", BASE / "data"),
        ("/data/waystation", Path("/data/waystation")),
        ("../other", Path("/srv/other")),
    ],
)
def test_data_directory_is_absolute(given: str, expected: Path) -> None:
    assert read(WAYSTATION_DATA_DIR=given).data_dir == expected


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "::1", "[::1]"])
def test_loopback_hosts_are_known(host: str) -> None:
    assert read(HOST=host).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "messages.example.org"])
def test_other_hosts_ask_for_a_production_start(host: str) -> None:
    assert read(HOST=host).is_production


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("PORT", value) for value in ("0", "65536", "-1", "8000 ", "8_000", "+80", "٨٠", "http", "1e3", "")],
        *[("HOST", value) for value in ("", "a b", "http://x", "1.2.3.4:80")],
        *[("DATABASE_URL", value) for value in ("", "mysql://a/b", "sqlite:///x", "host=a", "postgresql://a:%zz@b/c")],
        *[("REDIS_URL", value) for value in ("", "localhost:6379", "http://a")],
        *[("WAYSTATION_WEB_PROCESSES", value) for value in ("0", "65", "two", "1.0")],
        *[("WAYSTATION_LISTENER_PROCESSES", value) for value in ("-1", "65")],
        *[("WAYSTATION_TASK_PROCESSES", value) for value in ("-1", "65")],
        *[("WAYSTATION_ADMIN_TOKEN", value) for value in ("x" * 19, "x" * 201, "x" * 30 + "/", "é" * 30)],
        ("WAYSTATION_ADMIN_PASSWORD", ""),
        ("WAYSTATION_ADMIN_PASSWORD", "two\nlines"),
        *[("WAYSTATION_APPS", value) for value in ("a..b", "a,", "a-b", "a,a", "a/b")],
        *[("WAYSTATION_PROCESSED_DAYS", value) for value in ("0", "3651", "30d")],
        *[("WAYSTATION_ALLOWED_ORIGINS", value) for value in ("*", "null", "app.example.com", "https://a.example/")],
        *[("WAYSTATION_CONNECTIONS_PER_USER", value) for value in ("0", "-1", "100001", "many")],
        *[
            ("EMAIL_URL", value)
            for value in ("", "mail.example.org", "http://a", "smtp://", "smtp://a:x", "smtp://a/b")
        ],
        *[("DJANGO_DEBUG", value) for value in ("yes", "on", "true ", "2", "")],
        *[("DJANGO_ALLOWED_HOSTS", value) for value in ("", "a,,b", "http://a", "a:80")],
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(name: str, value: str) -> None:
    assert refusal_of(lambda: read(**{name: value})).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("smtp://mail", MailServer("mail", 25, "none")),
        ("smtp+tls://mail", MailServer("mail", 587, "starttls")),
        ("smtps://u%40x:p%2F:w@mail:2465/", MailServer("mail", 2465, "tls", "u@x", "p/:w")),
        ("smtp://[::1]:1025", MailServer("::1", 1025, "none")),
    ],
)
def test_a_mail_server_is_one_address(given: str, expected: MailServer) -> None:
    assert read(EMAIL_URL=given).mail == expected


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("WAYSTATION_DATADIR", "WAYSTATION_DATA_DIR"),
        ("WAYSTATION_ADMIN_PASSWD", "WAYSTATION_ADMIN_PASSWORD"),
        ("WAYSTATION_WEB", "WAYSTATION_WEB_PROCESSES"),
        ("WAYSTATION_APP", "WAYSTATION_APPS"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    text = refusal_of(lambda: read(**{name: SECRET}))
    assert name in text
    assert nearest in text
    assert SECRET not in text


def test_names_of_other_programs_are_not_our_business() -> None:
    assert read(PATH="/bin", DJANGO_SETTINGS_MODULE="x", PORTS="1", WAYSTATIONS="1") == read()


def test_secrets_stay_out_of_repr_and_refusals() -> None:
    given = {
        "DATABASE_URL": f"postgresql://waystation:{SECRET}@db/waystation",
        "REDIS_URL": f"redis://:{SECRET}@cache/0",
        "EMAIL_URL": f"smtps://waystation:{SECRET}@mail",
        "WAYSTATION_ADMIN_PASSWORD": SECRET,
        "WAYSTATION_ADMIN_TOKEN": f"{SECRET}-token",
        "DJANGO_SECRET_KEY": SECRET * 3,
    }
    found = read(**given)
    assert found.admin_password == SECRET
    assert SECRET not in repr(found)
    assert SECRET not in refusal_of(lambda: read(EMAIL_URL=f"smtp://x:{SECRET}/@mail"))
    assert SECRET not in refusal_of(lambda: read(DATABASE_URL=f"mysql://x:{SECRET}@db/x"))
    assert SECRET not in refusal_of(lambda: read(DATABASE_URL=f"postgresql://x:{SECRET}@[db/x"))


def test_production_starts_when_everything_is_given() -> None:
    environment.refuse_unsafe_production(read(**PRODUCTION), PRODUCTION)
    environment.refuse_unsafe_production(read(), {})


@pytest.mark.parametrize("reason", [{"DJANGO_DEBUG": "0"}, {"HOST": "0.0.0.0"}])
def test_production_refuses_and_says_all_that_is_missing(reason: dict[str, str]) -> None:
    text = refusal_of(lambda: environment.refuse_unsafe_production(read(**reason), reason))
    for name in ("DJANGO_SECRET_KEY", "DJANGO_ALLOWED_HOSTS", "DATABASE_URL", next(iter(reason))):
        assert name in text


@pytest.mark.parametrize("missing", ["DJANGO_SECRET_KEY", "DJANGO_ALLOWED_HOSTS", "DATABASE_URL"])
def test_production_names_only_what_is_missing(missing: str) -> None:
    given = {name: value for name, value in PRODUCTION.items() if name != missing}
    text = refusal_of(lambda: environment.refuse_unsafe_production(read(**given), given))
    assert text.endswith(f"missing: {missing}")


@pytest.mark.parametrize(
    "weak",
    [
        {"DJANGO_SECRET_KEY": "short"},
        {"DJANGO_SECRET_KEY": "django-insecure-" + SECRET * 3},
        {"DJANGO_ALLOWED_HOSTS": "*"},
    ],
)
def test_production_refuses_what_only_looks_safe(weak: dict[str, str]) -> None:
    given = PRODUCTION | weak
    text = refusal_of(lambda: environment.refuse_unsafe_production(read(**given), given))
    assert next(iter(weak)) in text
    assert SECRET not in text


def test_the_secret_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    found = environment.read({"WAYSTATION_DATA_DIR": "data"}, tmp_path)
    key = environment.secret_key(found)
    assert len(key) >= 50
    assert environment.secret_key(found) == key
    assert stat.S_IMODE((tmp_path / "data" / "secret_key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["secret_key"]


def test_a_given_secret_key_leaves_the_disk_alone(tmp_path: Path) -> None:
    found = environment.read({"DJANGO_SECRET_KEY": "given"}, tmp_path)
    assert environment.secret_key(found) == "given"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_data_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    found = environment.read({"WAYSTATION_DATA_DIR": "data"}, tmp_path)
    assert refusal_of(lambda: environment.secret_key(found)).startswith("WAYSTATION_DATA_DIR: ")
