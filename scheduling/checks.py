"""What `manage.py check`, and so each start, says of declarations that cannot work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, register

from brokers import declarations
from brokers.errors import BrokerError
from scheduling.executors import background, registry


@register
def executors_are_declared(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Each executor that a `@background` function names is there: a call would fail later."""
    try:
        declarations.discover()
    except BrokerError:  # `realtime.E001` says it
        return []
    known = {definition.name for definition in registry.declared()}
    return [
        Error(
            f"no executor is named {executor!r}, which {', '.join(functions)} would run in",
            hint=f"Declare it in a messaging.py: Executor({executor!r}, core=2, max=4)",
            id="scheduling.E001",
        )
        for executor, functions in sorted(background.named_executors().items())
        if executor not in known
    ]
