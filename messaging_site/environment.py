"""Every environment variable of the server, read once, typed and strictly.

Owns names, defaults and bounds of the variables; `settings.py`, `up` and the commands get a frozen
`Environment` and do not look at `os.environ`. A value that makes no sense, or a name that looks like
one of ours and is none, raises `Refusal`, whose text is one line that names the variable and shows no secret.
Owns also the generated Django key, since it stands in for a variable. Imports no Django.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from messaging_site import mail
from messaging_site.mail import MailServer

EXIT_CODE: Final = os.EX_CONFIG
"""Exit status (78) of a command that was refused because of its configuration."""

PREFIX: Final = "WAYSTATION_"
VARIABLES: Final = (
    "HOST",
    "PORT",
    "DATABASE_URL",
    "REDIS_URL",
    "WAYSTATION_DATA_DIR",
    "WAYSTATION_ADMIN_PASSWORD",
    "WAYSTATION_ADMIN_TOKEN",
    "WAYSTATION_WEB_PROCESSES",
    "WAYSTATION_LISTENER_PROCESSES",
    "WAYSTATION_TASK_PROCESSES",
    "WAYSTATION_APPS",
    "WAYSTATION_PROCESSED_DAYS",
    "WAYSTATION_ALLOWED_ORIGINS",
    "WAYSTATION_CONNECTIONS_PER_USER",
    "EMAIL_URL",
    "EMAIL_FROM",
    "DJANGO_SECRET_KEY",
    "DJANGO_DEBUG",
    "DJANGO_ALLOWED_HOSTS",
)
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]")
EXAMPLE_APPS: Final = ("examples.flights",)
MAX_PROCESSES: Final = 64
MIN_SECRET_KEY_LENGTH: Final = 32

Value = TypeVar("Value")
Default = TypeVar("Default")


class Refusal(Exception):
    """The server cannot start as it is configured; the text is one line for the person who started it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the environment asks for. Secrets are left out of its `repr`."""

    host: str
    port: int
    database_url: str | None = field(repr=False)
    redis_url: str | None = field(repr=False)
    data_dir: Path
    admin_password: str | None = field(repr=False)
    admin_token: str | None = field(repr=False)
    web_processes: int
    listener_processes: int
    task_processes: int
    """Processes of the Celery worker; with 0 neither it nor a beat is started."""
    apps: tuple[str, ...]
    processed_days: int
    """How long a consumer remembers what it has processed once."""
    allowed_origins: tuple[str, ...]
    """Origins besides this server's own whose pages may open live connections."""
    connections_per_user: int
    """Live connections that one user may hold in one web process."""
    mail: MailServer
    mail_from: str
    secret_key: str | None = field(repr=False)
    debug: bool
    debug_refused: bool
    """`DJANGO_DEBUG` was set to off in so many words, which asks for a production start."""
    allowed_hosts: tuple[str, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the web server."""
        return is_loopback(self.host)

    @property
    def is_production(self) -> bool:
        """Whether the start has to be refused unless key, hosts and database are given."""
        return self.debug_refused or not self.is_loopback


def read(environ: Mapping[str, str], base_dir: Path) -> Environment:
    """Returns what `environ` asks for; a relative data directory is relative to `base_dir`.

    Raises: Refusal for an unknown `WAYSTATION_` name, or a value out of its bounds.
    """
    _refuse_unknown_names(environ)
    host = _read(environ, "HOST", _host, "127.0.0.1")
    database_url = _read(environ, "DATABASE_URL", _database_url, None)
    debug = _read(environ, "DJANGO_DEBUG", _flag, None)
    return Environment(
        host=host,
        port=_read(environ, "PORT", _whole_number(1, 65535), 8000),
        database_url=database_url,
        redis_url=_read(environ, "REDIS_URL", _redis_url, None),
        data_dir=_resolved(base_dir, _read(environ, "WAYSTATION_DATA_DIR", Path, Path("var"))),
        admin_password=_read(environ, "WAYSTATION_ADMIN_PASSWORD", str, None),
        admin_token=_read(environ, "WAYSTATION_ADMIN_TOKEN", _token, None),
        web_processes=_read(environ, "WAYSTATION_WEB_PROCESSES", _whole_number(1, MAX_PROCESSES), 1),
        listener_processes=_read(environ, "WAYSTATION_LISTENER_PROCESSES", _whole_number(0, MAX_PROCESSES), 1),
        task_processes=_read(environ, "WAYSTATION_TASK_PROCESSES", _whole_number(0, MAX_PROCESSES), 2),
        apps=_apps(environ, default=EXAMPLE_APPS if database_url is None else ()),
        processed_days=_read(environ, "WAYSTATION_PROCESSED_DAYS", _whole_number(1, 3650), 30),
        allowed_origins=_read(environ, "WAYSTATION_ALLOWED_ORIGINS", _origins, ()),
        connections_per_user=_read(environ, "WAYSTATION_CONNECTIONS_PER_USER", _whole_number(1, 100_000), 1000),
        mail=_read(environ, "EMAIL_URL", mail.parse, mail.NO_SERVER),
        mail_from=_read(environ, "EMAIL_FROM", str, "waystation@localhost"),
        secret_key=_read(environ, "DJANGO_SECRET_KEY", str, None),
        debug=bool(debug),
        debug_refused=debug is False,
        allowed_hosts=_read(environ, "DJANGO_ALLOWED_HOSTS", _hosts, LOCAL_HOSTS),
    )


def refuse_unsafe_production(environment: Environment, environ: Mapping[str, str]) -> None:
    """Refuses a start that others can reach, or that is said to be production, with what only suits a trial.

    Raises: Refusal naming everything that is missing, in one line.
    """
    if not environment.is_production:
        return
    faults = list(_production_faults(environment, environ))
    if faults:
        because = "DJANGO_DEBUG=0" if environment.debug_refused else f"HOST={environment.host} is not loopback"
        raise Refusal(f"{because} asks for a production start; missing: {'; '.join(faults)}")


def secret_key(environment: Environment) -> str:
    """Returns `DJANGO_SECRET_KEY`, else the key kept in the data directory, made when missing (mode 0600).

    Raises: Refusal when the data directory cannot be read or written.
    """
    if environment.secret_key is not None:
        return environment.secret_key
    path = environment.data_dir / "secret_key"
    try:
        if not path.exists():
            _create_secret_key(path)
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise Refusal(f"WAYSTATION_DATA_DIR: cannot keep the secret key in {path}: {error.strerror}") from error


def make_data_dir(data_dir: Path) -> None:
    """Creates the data directory for its owner alone.

    Under root others may pass through it, without listing it, for the account of the embedded PostgreSQL.
    Raises: OSError.
    """
    mode = 0o711 if os.geteuid() == 0 else 0o700
    if not data_dir.is_dir():
        data_dir.mkdir(mode=mode, parents=True, exist_ok=True)
        data_dir.chmod(mode)


def _create_secret_key(path: Path) -> None:
    make_data_dir(path.parent)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(64) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        # A link, not a rename: of several processes that start at once the first wins, and all read its key.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _production_faults(environment: Environment, environ: Mapping[str, str]) -> Iterable[str]:
    key = environment.secret_key
    if key is None:
        yield "DJANGO_SECRET_KEY"
    elif len(key) < MIN_SECRET_KEY_LENGTH or key.startswith("django-insecure-"):
        yield f"a DJANGO_SECRET_KEY of {MIN_SECRET_KEY_LENGTH} or more random characters"
    if "DJANGO_ALLOWED_HOSTS" not in environ:
        yield "DJANGO_ALLOWED_HOSTS"
    elif "*" in environment.allowed_hosts:
        yield "DJANGO_ALLOWED_HOSTS with names instead of *"
    if environment.database_url is None:
        yield "DATABASE_URL"


def _refuse_unknown_names(environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in VARIABLES:
            ours = [known for known in VARIABLES if known.startswith(PREFIX)]
            begun = [known for known in ours if known.startswith(name)]
            nearest = begun or difflib.get_close_matches(name, ours, n=1, cutoff=0.0)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise Refusal(f"{name}: there is no such variable{hint}")


def _read(environ: Mapping[str, str], name: str, parse: Callable[[str], Value], default: Default) -> Value | Default:
    text = environ.get(name)
    if text is None:
        return default
    if not text:
        raise Refusal(f"{name}: is empty; leave it unset for the default")
    if not text.isprintable():
        raise Refusal(f"{name}: holds a line break or another character that does not print")
    try:
        return parse(text)
    except ValueError as error:
        raise Refusal(f"{name}: {error}") from None


def _apps(environ: Mapping[str, str], default: tuple[str, ...]) -> tuple[str, ...]:
    # The one variable that may be empty: no apps is a choice, and differs from the default.
    if environ.get("WAYSTATION_APPS") == "":
        return ()
    return _read(environ, "WAYSTATION_APPS", _dotted_names, default)


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) and least <= int(text) <= most:
            return int(text)
        raise ValueError(f"must be a whole number from {least} to {most}")

    return parse


def _flag(text: str) -> bool:
    flags = {"1": True, "true": True, "True": True, "0": False, "false": False, "False": False}
    if text not in flags:
        raise ValueError("must be 1 or 0")
    return flags[text]


def _host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        if re.fullmatch(r"[A-Za-z0-9._-]{1,253}", text):
            return text
        raise ValueError("must be an address or a host name") from None


def is_loopback(host: str) -> bool:
    """Whether an address or host name, as the web server listens on it, is of this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _database_url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("must be a postgresql:// address; other databases are not supported")
    try:
        conninfo_to_dict(text)
    except ProgrammingError:
        # libpq's own message would show the address, and with it the password.
        raise ValueError("is not a valid postgresql:// address") from None
    return text


def _redis_url(text: str) -> str:
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must be a redis://, rediss:// or unix:// address")
    return text


def _token(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{20,200}", text):
        raise ValueError("must be 20 to 200 of [A-Za-z0-9._-]")
    return text


def _dotted_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError("must be dotted names of Django apps with commas between them")
    if len(set(names)) < len(names):
        raise ValueError("names an app twice")
    return names


def _hosts(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(re.fullmatch(r"\*|\[[0-9A-Fa-f:.]+\]|\.?[A-Za-z0-9._-]+", name) for name in names):
        raise ValueError("must be host names with commas between them, without ports")
    return names


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in text.split(","))
    shape = r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[1-9][0-9]{0,4})?"
    if not all(re.fullmatch(shape, origin, re.ASCII) for origin in origins):
        raise ValueError("must be origins such as https://app.example.com, in lower case, with commas between them")
    return origins


def _resolved(base_dir: Path, path: Path) -> Path:
    return (base_dir / path.expanduser()).resolve()
