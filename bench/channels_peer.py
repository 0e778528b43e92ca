"""What live push is compared with: a plain Channels consumer, each connection a member of one group.

Served by the same uvicorn; groups go over channels-redis's default layer. A client that sends `publish N BODY` has N
messages sent to the group. Read by `bench.live`.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "messaging_site.settings")

import django
from django.conf import settings

django.setup()
settings.CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            "hosts": [{"address": settings.REDIS_URL, "socket_timeout": 60, "max_connections": 10_000}],
            "capacity": 100_000,
        },
    }
}

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

GROUP = "bench"


class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # the library has no types
    """One subscriber."""

    async def connect(self) -> None:
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Answers `hello`, publishes for `publish`."""
        word, _, rest = (text_data or "").partition(" ")
        if word == "hello":
            await self.send(text_data="ready")
            return
        number, _, body = rest.partition(" ")
        for _ in range(int(number)):
            await self.channel_layer.group_send(GROUP, {"type": "deliver", "text": body})

    async def deliver(self, event: dict[str, Any]) -> None:
        """One message of the group."""
        await self.send(text_data=event["text"])


application = ProtocolTypeRouter(
    {"http": PlainTextResponse("ok"), "websocket": Consumer.as_asgi(), "lifespan": Starlette()}
)
