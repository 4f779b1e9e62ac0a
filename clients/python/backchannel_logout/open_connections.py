"""Ends WebSockets and event streams whose session is dead, for `asgi`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from backchannel_logout.contract.session import Session
from backchannel_logout.guard import AsyncSessionGuard
from backchannel_logout.guard_errors import RevocationUnknown

# Open connections are checked this often, in seconds, and at once when the guard's tail has read a
# logout, so that they close within a second.
RECHECK = 0.75

# How often Redis is queried for all of them, whatever the tail has read.
_QUERY_EVERY = 2.0

SESSION_ENDED = 4401
"""The close code of a WebSocket whose session is dead; from the range for applications."""

TRY_AGAIN_LATER = 1013
"""The close code while the state is unknown (registered with IANA)."""


class OpenConnection:
    """One connection: its session, and the time limit that ends its app."""

    def __init__(
        self, session: Session, connections: set["OpenConnection"], wake: Callable[[], None]
    ) -> None:
        self.session = session
        self.limit = asyncio.timeout(None)
        self.code = SESSION_ENDED
        self._connections = connections
        self._wake = wake
        self._send_end: Callable[[], Awaitable[None]] | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the end was sent or is about to be: nothing may follow it."""
        return self._ending is not None

    def begin(self, send_end: Callable[[], Awaitable[None]]) -> None:
        """It stays open from now on."""
        self._send_end = send_end
        self._connections.add(self)
        self._wake()

    def end(self, code: int) -> None:
        self.code = code
        self._connections.discard(self)
        self.limit.reschedule(asyncio.get_running_loop().time())
        # Not awaited: a client that reads nothing must not keep the others open.
        self._ending = asyncio.create_task(self._end())

    async def _end(self) -> None:
        if self._send_end is not None:
            with suppress(OSError, RuntimeError):  # it has just closed
                await self._send_end()

    async def wait_for_end(self) -> None:
        """The server must not learn that the app is done before the end was sent."""
        if self._ending is not None:
            await self._ending


class OpenConnections:
    """All open connections, checked together: at most one query to Redis for all of them."""

    def __init__(self, guard: AsyncSessionGuard) -> None:
        self._guard = guard
        self._connections: set[OpenConnection] = set()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def watch(self, session: Session) -> Iterator[OpenConnection]:
        connection = OpenConnection(session, self._connections, self._wake)
        try:
            yield connection
        finally:
            self._connections.discard(connection)

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Runs while there are open connections."""
        query_at = 0.0
        news = self._guard.next_news
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RECHECK):
                    await news.wait()
            news = self._guard.next_news
            if not self._connections:
                return
            connections = list(self._connections)
            now = asyncio.get_running_loop().time()
            fresh = now >= query_at
            if fresh:
                query_at = now + _QUERY_EVERY
            sessions = {connection.session for connection in connections}
            try:
                dead = await self._guard.which_revoked(sessions, fresh=fresh)
            except RevocationUnknown:
                # Without an answer a request may not begin, so a connection may not go on.
                for connection in connections:
                    connection.end(TRY_AGAIN_LATER)
                continue
            for connection in connections:
                if connection.session in dead:
                    connection.end(SESSION_ENDED)
