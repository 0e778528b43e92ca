"""The topic log, consumer groups, exchanges and queues, and the Python API of Waystation.

What application code uses is named here and loaded on first use, so that importing a submodule pulls in nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brokers.declarations import binding, exchange, queue, topic
    from brokers.listeners.queue_registration import queue_listener
    from brokers.listeners.registration import BatchListenerFailed, topic_listener
    from brokers.processed import idempotent, process_once
    from brokers.publishing import apublish, apublish_many, publish, publish_many
    from brokers.queues.requests import arequest, request
    from brokers.queues.sending import asend, asend_many, send, send_many
    from brokers.retries.backoff import ExponentialBackOff, FixedBackOff

_HOMES = {
    "BatchListenerFailed": "brokers.listeners.registration",
    "ExponentialBackOff": "brokers.retries.backoff",
    "FixedBackOff": "brokers.retries.backoff",
    "apublish": "brokers.publishing",
    "apublish_many": "brokers.publishing",
    "arequest": "brokers.queues.requests",
    "asend": "brokers.queues.sending",
    "asend_many": "brokers.queues.sending",
    "binding": "brokers.declarations",
    "exchange": "brokers.declarations",
    "idempotent": "brokers.processed",
    "process_once": "brokers.processed",
    "publish": "brokers.publishing",
    "publish_many": "brokers.publishing",
    "queue": "brokers.declarations",
    "queue_listener": "brokers.listeners.queue_registration",
    "request": "brokers.queues.requests",
    "send": "brokers.queues.sending",
    "send_many": "brokers.queues.sending",
    "topic": "brokers.declarations",
    "topic_listener": "brokers.listeners.registration",
}

__all__ = [
    "BatchListenerFailed",
    "ExponentialBackOff",
    "FixedBackOff",
    "apublish",
    "apublish_many",
    "arequest",
    "asend",
    "asend_many",
    "binding",
    "exchange",
    "idempotent",
    "process_once",
    "publish",
    "publish_many",
    "queue",
    "queue_listener",
    "request",
    "send",
    "send_many",
    "topic",
    "topic_listener",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'brokers' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
