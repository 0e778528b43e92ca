"""Exchanges, queues, bindings, policies and messages as the JSON lines of the commands, with REST's members."""

from __future__ import annotations

from typing import Any

import msgspec

from brokers.instants import rfc3339
from brokers.management.queue_settings import SHARED
from brokers.models import QueuePolicy
from brokers.queues.declared import DELIVERY_LIMIT, OVERFLOW
from brokers.queues.message import Message
from brokers.queues.message_json import seen_json
from brokers.selectors.exchanges import BindingDetail, ExchangeDetail
from brokers.selectors.queues import QueueDetail


def queue_json(queue: QueueDetail) -> dict[str, Any]:
    """A queue: its settings as declared, what holds, and what waits in it."""
    declared = queue.declared
    return {
        "name": queue.name,
        "message_ttl_ms": declared.message_ttl_ms,
        "expires_ms": declared.expires_ms,
        "max_length": declared.max_length,
        "overflow": declared.overflow or OVERFLOW,
        "max_priority": declared.max_priority,
        "dead_letter_exchange": declared.dead_letter_exchange,
        "dead_letter_routing_key": declared.dead_letter_routing_key,
        "delivery_limit": DELIVERY_LIMIT if declared.delivery_limit is None else declared.delivery_limit,
        "single_active_consumer": declared.single_active_consumer,
        "dead_letters": declared.dead_letters,
        "policy": queue.policy,
        "effective": {name: getattr(queue.effective, name) for name in SHARED},
        "paused": queue.paused,
        "temporary": queue.temporary,
        "created_at": rfc3339(queue.created_at),
        "messages": queue.messages,
        "ready": queue.ready,
        "unacknowledged": queue.unacknowledged,
        "delayed": queue.delayed,
        "consumers": queue.consumers,
        "oldest_ready_at": rfc3339(queue.oldest_ready_at),
    }


def exchange_json(exchange: ExchangeDetail) -> dict[str, Any]:
    """An exchange."""
    return {
        "name": exchange.name,
        "type": exchange.type,
        "alternate_exchange": exchange.alternate_exchange,
        "bindings": exchange.bindings,
        "created_at": rfc3339(exchange.created_at),
    }


def binding_json(binding: BindingDetail) -> dict[str, Any]:
    """A binding."""
    return {
        "id": binding.id,
        "exchange": binding.exchange,
        "queue": binding.queue,
        "to_exchange": binding.to_exchange,
        "routing_key": binding.routing_key,
        "arguments": binding.arguments,
        "created_at": rfc3339(binding.created_at),
    }


def policy_json(policy: QueuePolicy) -> dict[str, Any]:
    """A policy; null where it says nothing."""
    return {
        "name": policy.name,
        "pattern": policy.pattern,
        "priority": policy.priority,
        **{name: getattr(policy, name) for name in SHARED},
        "created_at": rfc3339(policy.created_at),
    }


def message_json(message: Message) -> msgspec.Raw:
    """A message as an onlooker sees it, on one line; a JSON body in the very bytes that were published."""
    return msgspec.Raw(seen_json(message).replace(b"\n", b" ").replace(b"\r", b" "))
