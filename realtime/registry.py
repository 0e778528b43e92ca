"""All live connections of this process: how many there may be, who may keep theirs, and how they all end.

One per process, part of `hub.LiveHub`. Every surface opens its connections here and gives them back. Looks after
credentials every few seconds, hears of disconnects asked for in any process, drains at the end, and tells the console.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections import Counter
from typing import Final

from django.conf import settings

from brokers import wakeup
from brokers.access import Principal
from brokers.errors import BrokerError, Unavailable
from realtime import credentials, metrics
from realtime.connection_details import Examiner
from realtime.connection_reports import Reporter
from realtime.connections import GOING_AWAY, Connection, Transport
from realtime.credentials import Credential
from realtime.errors import PolicyViolation
from realtime.wheel import Wheel

log = logging.getLogger("waystation.realtime")

MAX_CONNECTIONS: Final = 20_000
"""Live connections of one process."""
EXPECTED_CONNECTIONS: Final = 10_000
"""A process that cannot hold as many says so when it starts."""
MAX_PER_USER: Final = 1000
"""Live connections of one user in one process, unless the Django setting `LIVE_CONNECTIONS_PER_USER` says otherwise."""
SPARE_DESCRIPTORS: Final = 1_000
"""What else a process opens: stores, files, requests."""
LOGIN_SECONDS: Final = 10.0
"""How long a connection may take to say whose it is (RabbitMQ's `login_timeout`)."""
REVALIDATE_SECONDS: Final = 8.0
"""How often every credential is asked again: what was revoked ends within ten seconds, even without Redis."""
_ASKING_AT_ONCE: Final = 100
_FLUSH_SECONDS: Final = 1.0
_DRAINED_AT_ONCE: Final = 500


class Registry:
    """The connections of this process. Everything happens in its event loop."""

    def __init__(self, hub: wakeup.Hub) -> None:
        self.connections: dict[str, Connection] = {}
        self.wheel = Wheel()
        self.draining = False
        self._per_user: Counter[str] = Counter()
        self._counted: dict[str, str] = {}
        self._limit = MAX_CONNECTIONS
        self._limit_per_user = int(getattr(settings, "LIVE_CONNECTIONS_PER_USER", MAX_PER_USER))
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._reporter = Reporter(self.connections, Examiner(self.connections))
        hub.watch(self._hear)

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to look after the connections; needs the running event loop."""
        self._limit = min(MAX_CONNECTIONS, descriptors() - SPARE_DESCRIPTORS)
        if self._limit < EXPECTED_CONNECTIONS:
            log.warning("few live connections are possible: raise the limit of open files", extra={"most": self._limit})
        self.wheel.start()
        self._tasks = [
            asyncio.create_task(self._revalidate(), name="waystation-credentials"),
            asyncio.create_task(self._flush(), name="waystation-live-metrics"),
            asyncio.create_task(self._reporter.run(), name="waystation-connection-reports"),
        ]

    async def stop(self) -> None:
        """Stops looking after them; connections still open are closed."""
        self.drain()
        self.wheel.stop()
        for task in [*self._tasks, *self._asking]:
            task.cancel()
        for task in [*self._tasks, *self._asking]:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        metrics.flush()

    def drain(self) -> None:
        """Ends all connections, and lets no more in: clients come back, to another process or this one's successor."""
        self.draining = True
        self._drain_some()

    def _drain_some(self) -> None:
        for connection in list(self.connections.values())[:_DRAINED_AT_ONCE]:
            connection.end(GOING_AWAY, "the server is stopping")
            self.close(connection)
        if self.connections:
            asyncio.get_running_loop().call_soon(self._drain_some)

    # -- connections ----------------------------------------------------------------------------------------------

    def open(
        self,
        protocol: str,
        transport: Transport,
        *,
        principal: Principal | None = None,
        credential: Credential | None = None,
        user_agent: str = "",
        address: str = "",
    ) -> Connection:
        """A new connection of `protocol` (`stomp` or `sse`) over this transport; give it back by `close`.

        Raises: Unavailable when the process holds as many as it can, or stops; PolicyViolation
        (`too_many_connections`) when the user does.
        """
        self.check_room()
        connection = Connection(
            protocol,
            transport,
            wheel=self.wheel,
            credential=credential,
            user_agent=user_agent,
            address=address,
        )
        if principal is not None:
            self.admit(connection, principal, credential)
        self.connections[connection.id] = connection
        metrics.connections.labels(protocol).inc()
        metrics.opened.labels(protocol).inc()
        return connection

    def check_room(self) -> None:
        """Raises `Unavailable` when no further connection can be opened in this process."""
        if self.draining:
            raise Unavailable("this process is stopping; connect again")
        if len(self.connections) >= self._limit:
            raise Unavailable(f"this process holds {self._limit} live connections already; try again in some seconds")

    def expect_login(self, connection: Connection) -> None:
        """Ends the connection unless it is `opened`, by somebody known, within `LOGIN_SECONDS`."""

        def visit(now: float) -> None:
            if not connection.ended and not (connection.opened and connection.principal is not None):
                connection.fail(PolicyViolation(f"no login within {LOGIN_SECONDS:.0f} s", "login_timeout"))

        self.wheel.visit_in(LOGIN_SECONDS, visit)

    def admit(self, connection: Connection, principal: Principal, credential: Credential | None) -> None:
        """Says whose the connection is, once it is known.

        Raises: PolicyViolation (`too_many_connections`) when the user has as many in this process as one may.
        """
        user = principal.user_name()
        if self._counted.get(connection.id) != user:
            if self._per_user[user] >= self._limit_per_user:
                raise PolicyViolation(
                    f"{self._limit_per_user} live connections are open for this user already", "too_many_connections"
                )
            self._uncount(connection)
            self._per_user[user] += 1
            self._counted[connection.id] = user
        connection.principal, connection.credential = principal, credential

    def close(self, connection: Connection) -> None:
        """Forgets the connection; it has ended, or ends now as the peer has gone."""
        connection.closed()
        self._uncount(connection)
        if self.connections.pop(connection.id, None) is not None:
            metrics.connections.labels(connection.protocol).dec()

    def _uncount(self, connection: Connection) -> None:
        user = self._counted.pop(connection.id, None)
        if user is not None:
            self._per_user[user] -= 1
            if not self._per_user[user]:
                del self._per_user[user]

    # -- who may stay ---------------------------------------------------------------------------------------------

    def _hear(self, hint: str) -> None:
        kind, name = hint[:1], hint[1:]
        if kind == "d":
            connection = self.connections.get(name)
            if connection is not None:
                connection.fail(PolicyViolation("an administrator has ended this connection", "disconnected"))
        elif kind == "k" or not hint:
            # An empty hint: what was announced while Redis was away was not heard.
            self._ask_soon(None if not hint else name)

    def _ask_soon(self, token_id: str | None) -> None:
        concerned = [
            connection
            for connection in self.connections.values()
            if connection.principal is not None and (not token_id or connection.principal.token_id == token_id)
        ]
        if concerned and len(self._asking) < _ASKING_AT_ONCE:
            task = asyncio.create_task(self._ask(concerned), name="waystation-credential")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _revalidate(self) -> None:
        while True:
            await asyncio.sleep(REVALIDATE_SECONDS)
            await self._ask(list(self.connections.values()))

    async def _ask(self, connections: list[Connection]) -> None:
        """Asks each credential once; ends the connections of those that are not valid any more."""
        asked = [(each, each.credential) for each in connections if each.credential is not None and not each.ended]
        try:
            answers = await credentials.current({credential for _, credential in asked})
        except BrokerError as error:
            # Nobody can tell now, which ends nothing: the next time comes soon.
            log.warning("credentials of live connections cannot be checked", extra={"error": error.detail})
            return
        for connection, credential in asked:
            if connection.ended or connection.credential != credential:
                continue
            principal = answers.get(credential)
            if principal is None:
                connection.fail(PolicyViolation("the credentials of this connection were revoked", "token_revoked"))
            elif principal != connection.principal:
                self._change(connection, principal)

    def _change(self, connection: Connection, principal: Principal) -> None:
        connection.principal = principal
        if connection.on_principal is not None:
            try:
                connection.on_principal(principal)
            except BrokerError as error:
                connection.fail(error)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            metrics.flush()


def descriptors() -> int:
    """How many files and sockets this process may open, after raising that as far as it is allowed to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + SPARE_DESCRIPTORS
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return soft
