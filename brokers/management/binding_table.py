"""Bindings, as the commands `queues` and `exchanges` read and print them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from brokers.management.queue_json import binding_json
from brokers.selectors import exchanges as selector
from brokers.selectors.exchanges import BindingDetail
from brokers.terminal import Output

_PAGE: Final = 1000


def bindings(*, exchange: str | None = None, queue: str | None = None) -> Iterator[BindingDetail]:
    """All bindings, of one exchange or to one queue where that is given, oldest first."""
    after: int | None = 0
    while after is not None:
        page, after = selector.bindings(exchange=exchange, queue=queue, after=after, limit=_PAGE)
        yield from page


def tell_bindings(output: Output, found: Iterable[BindingDetail]) -> None:
    """A table of bindings, or a line of JSON for each."""
    rows = []
    for binding in found:
        output.json(binding_json(binding))
        rows.append(row(binding))
    output.table((">Id", "Exchange", "Leads to", "Routing key", "Arguments"), rows, "There are no bindings")


def row(binding: BindingDetail) -> tuple[str, ...]:
    """One line of the table."""
    return (
        f"{binding.id}",
        binding.exchange,
        destination(binding.queue, binding.to_exchange),
        binding.routing_key,
        msgspec.json.encode(binding.arguments).decode() if binding.arguments else "",
    )


def destination(queue: str | None, to_exchange: str | None) -> str:
    """Where a binding leads, in words."""
    return f"queue {queue}" if queue is not None else f"exchange {to_exchange}"
