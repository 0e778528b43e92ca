"""The topic log, its consumer groups and the Python API of Waystation.

What application code uses is named here and loaded on first use, so that importing a submodule pulls in nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brokers.declarations import topic
    from brokers.publishing import apublish, apublish_many, publish, publish_many

_HOMES = {
    "apublish": "brokers.publishing",
    "apublish_many": "brokers.publishing",
    "publish": "brokers.publishing",
    "publish_many": "brokers.publishing",
    "topic": "brokers.declarations",
}

__all__ = ["apublish", "apublish_many", "publish", "publish_many", "topic"]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'brokers' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
