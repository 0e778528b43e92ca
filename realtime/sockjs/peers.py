"""Several web processes of one machine: a request that reaches one which does not have its session is passed on.

Which process a request reaches is chance. A session stays where it was opened; each process that has any listens on a
Unix socket in one directory, and whoever is asked for a session that it does not know asks the others, remembers the
answer, and passes the request on, bytes both ways. No registry, no cookie: a process that dies ends its sessions, and
their clients connect again. Several machines need a balancer that goes by the session (docs/sockjs.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import stat
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from realtime import send_buffers
from realtime.sockjs import answers, wire
from realtime.sockjs.receiving import transport_of

log = logging.getLogger("waystation.realtime")

ASK_SECONDS: Final = 1.0
"""How long another process may take to say whether it has a session."""
SHUN_SECONDS: Final = 5.0
"""For how long one that did not answer is not asked."""
SEND_SECONDS: Final = 30.0
"""How long a client may leave an answer unread that is passed on to it."""
PART_BYTES: Final = 1024 * 1024
"""At most so much of an answer is passed on at once."""
MAX_REMEMBERED: Final = 20_000
SUFFIX: Final = ".sock"

Serve = Callable[[Scope, Receive, Send, str], Awaitable[None]]


class Peers:
    """The other web processes on this machine, and this one's socket for them."""

    def __init__(self, directory: Path, holds: Callable[[str], bool], serve: Serve) -> None:
        self._directory = directory
        self._holds = holds
        self._serve = serve
        self._own = directory / f"{secrets.token_hex(8)}{SUFFIX}"
        self._server: asyncio.Server | None = None
        self._opening = asyncio.Lock()
        self._unusable = False
        self._serving: set[asyncio.Task[Any]] = set()
        self._found: OrderedDict[str, Path] = OrderedDict()
        self._shunned: dict[Path, float] = {}

    # -- being found ----------------------------------------------------------------------------------------------

    async def listen(self) -> None:
        """Lets the others find this process's sessions; nothing is wrong where there is only one process."""
        async with self._opening:
            if self._server is not None or self._unusable:
                return
            try:
                self._server = await asyncio.start_unix_server(self._answer, sock=self._bound())
            except OSError as error:
                self._unusable = True
                log.warning(
                    "SockJS sessions of this process cannot be reached through others",
                    extra={"error": str(error), "directory": str(self._directory)},
                )

    def _bound(self) -> socket.socket:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self._directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(f"{self._directory} is not this account's own")
        self._directory.chmod(0o700)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        hidden = self._own.with_suffix(".new")
        try:
            listener.bind(str(hidden))
            listener.listen(1024)
            listener.setblocking(False)
            hidden.rename(self._own)  # nobody finds it before it listens, and takes it for dead
        except OSError:
            listener.close()
            raise
        return listener

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question of another process, and the request that it may pass on."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            asked = await wire.read(reader)
            if asked is None:
                return
            mine = self._holds(asked["session"])
            await wire.write(writer, {"mine": mine})
            if mine and "scope" in asked:
                passed = _PassedOn(reader, writer)
                await self._serve(wire.scope_of(asked["scope"]), passed.receive, passed.send, asked["rest"])
        except (OSError, wire.PeerFailure, asyncio.CancelledError) as error:
            log.debug("a request passed on by another process ended early", extra={"error": str(error)})
        finally:
            self._serving.discard(task)
            writer.close()

    async def stop(self) -> None:
        """Is not found any more; what was passed on and has not ended by now is cut off."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._own.unlink(missing_ok=True)
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    # -- finding --------------------------------------------------------------------------------------------------

    async def pass_on(self, session: str, scope: Scope, receive: Receive, send: Send, rest: str) -> bool:
        """Has the process that holds the session answer the request; False when none does.

        A process that is gone while it answers leaves 404, or the end of a streaming answer.
        """
        path = self._found.get(session)
        if path is not None and await self._passed(path, session, scope, receive, send, rest):
            return True
        self._found.pop(session, None)
        path = await self._find(session)
        if path is None or not await self._passed(path, session, scope, receive, send, rest):
            return False
        self._found[session] = path
        while len(self._found) > MAX_REMEMBERED:
            self._found.popitem(last=False)
        return True

    async def _find(self, session: str) -> Path | None:
        paths = self._others()
        held = await asyncio.gather(*(self._holds_it(path, session) for path in paths))
        return next((path for path, yes in zip(paths, held, strict=True) if yes), None)

    def _others(self) -> list[Path]:
        try:
            paths = [path for path in self._directory.iterdir() if path.suffix == SUFFIX]
        except OSError:
            return []
        now = time.monotonic()
        self._shunned = {path: until for path, until in self._shunned.items() if until > now}
        return [path for path in paths if path != self._own and path not in self._shunned]

    async def _holds_it(self, path: Path, session: str) -> bool:
        opened = await self._ask(path, {"session": session})
        if opened is None:
            return False
        opened[1].close()
        return True

    async def _ask(
        self, path: Path, question: dict[str, Any]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The connection to a process that says it has the session, else None."""
        writer = None
        try:
            async with asyncio.timeout(ASK_SECONDS):
                reader, writer = await asyncio.open_unix_connection(str(path))
                await wire.write(writer, question)
                verdict = await wire.read(reader)
            if verdict is not None and verdict.get("mine"):
                return reader, writer
        except ConnectionRefusedError:
            _bury(path)
        except (TimeoutError, wire.PeerFailure):
            self._shunned[path] = time.monotonic() + SHUN_SECONDS
        except OSError as error:
            log.debug("another process cannot be asked", extra={"error": str(error)})
        if writer is not None:
            writer.close()
        return None

    async def _passed(self, path: Path, session: str, scope: Scope, receive: Receive, send: Send, rest: str) -> bool:
        opened = await self._ask(path, {"session": session, "rest": rest, "scope": wire.asked_of(scope)})
        if opened is None:
            return False
        reader, writer = opened
        bringing = asyncio.create_task(_bring(receive, writer), name="waystation-sockjs-passed-on")
        try:
            await _take_back(reader, send)
        finally:
            bringing.cancel()
            writer.close()
            with contextlib.suppress(asyncio.CancelledError):
                await bringing
        return True


def _bury(path: Path) -> None:
    """Takes away the socket of a process that has died."""
    with contextlib.suppress(OSError):
        path.unlink()


async def _bring(receive: Receive, writer: asyncio.StreamWriter) -> None:
    """Passes on the request's body, and that the client has gone by closing."""
    with contextlib.suppress(OSError):
        while True:
            message = await receive()
            if message["type"] != "http.request":
                writer.close()
                return
            await wire.write(writer, message)


async def _take_back(reader: asyncio.StreamReader, send: Send) -> None:
    """Gives the client the answer as it comes."""
    begun = False
    raw = transport_of(send)
    send_buffers.bound(raw)
    try:
        while (message := await wire.read(reader)) is not None:
            begun = True
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                return
        if begun:
            await send({"type": "http.response.body", "body": b""})
        else:
            await answers.answer(send, 404)
    except TimeoutError:
        if raw is not None:
            raw.abort()
    except (OSError, RuntimeError, wire.PeerFailure) as error:
        log.debug("an answer of another process ended early", extra={"error": str(error)})


class _PassedOn:
    """ASGI's `receive` and `send` of a request that came through another process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.transport = writer.transport
        """For whoever has to cut off a client that does not read."""

    async def receive(self) -> Message:
        """The next part of the body, or the client's going."""
        return await wire.read(self._reader) or {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Passes a part of the answer on. Raises: OSError."""
        body = message.get("body", b"")
        more = message.get("more_body", False)
        while len(body) > PART_BYTES:
            await wire.write(self._writer, {**message, "body": body[:PART_BYTES], "more_body": True})
            body = body[PART_BYTES:]
        await wire.write(self._writer, {**message, "body": body, "more_body": more} if body else message)
