"""The mail server that alerts are sent through, as one address: `smtp://`, `smtp+tls://` or `smtps://`.

Pure: `environment.py` reads the variable, `settings.py` hands the parts to Django.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

TIMEOUT_SECONDS: Final = 5.0
"""For each step of a conversation with the server."""
_PORTS: Final = {"smtp": 25, "smtp+tls": 587, "smtps": 465}


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where e-mail is handed over; `tls` is none, `starttls` or `tls` from the first byte."""

    host: str
    port: int
    tls: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


NO_SERVER: Final = MailServer(host="", port=25, tls="none")
"""Its empty host is what alerts report as not configured."""


def parse(text: str) -> MailServer:
    """The server at an address such as `smtp+tls://user:password@mail.example.org:587`.

    Raises: ValueError, whose text does not show the address, and with it the password.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is not a valid address") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("must be smtp://, smtp+tls:// (STARTTLS) or smtps:// and a host")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must end after the host and port; write / ? # in a password as %2F %3F %23")
    return MailServer(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        tls={"smtp": "none", "smtp+tls": "starttls", "smtps": "tls"}[parts.scheme],
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )
