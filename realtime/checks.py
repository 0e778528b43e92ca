"""What `manage.py check` says of message mappings, before a server starts without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error

from brokers import declarations
from brokers.errors import BrokerError


def declarations_can_be_read(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """`realtime.E001`: an application's `messaging.py` declares what cannot be, such as a route twice."""
    try:
        declarations.discover()
    except BrokerError as error:
        hint = "See the declarations in the messaging.py of the installed apps."
        return [Error(error.detail, hint=hint, id="realtime.E001")]
    return []
