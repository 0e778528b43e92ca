"""Live push (STOMP, SockJS, server-sent events), and its Python API.

What application code uses is named here and loaded on first use, so that importing a submodule pulls in nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from realtime.broadcasting import abroadcast, asend_to_user, broadcast, send_to_user
    from realtime.mappings import message_mapping, send_to
    from realtime.notifications import anotify, notify
    from realtime.progress import Progress
    from realtime.starting import position

_HOMES = {
    "Progress": "realtime.progress",
    "abroadcast": "realtime.broadcasting",
    "anotify": "realtime.notifications",
    "asend_to_user": "realtime.broadcasting",
    "broadcast": "realtime.broadcasting",
    "message_mapping": "realtime.mappings",
    "notify": "realtime.notifications",
    "position": "realtime.starting",
    "send_to": "realtime.mappings",
    "send_to_user": "realtime.broadcasting",
}

__all__ = [
    "Progress",
    "abroadcast",
    "anotify",
    "asend_to_user",
    "broadcast",
    "message_mapping",
    "notify",
    "position",
    "send_to",
    "send_to_user",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'realtime' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
