"""Limits the requests to the token endpoint that sign-ins cause.

Everybody can start a sign-in and answer it with a guessed code. Codes cannot be guessed, so a wrong
one locks nobody out. Instead each sign-in is redeemed once, which costs the sender a request of
their own, and the number of concurrent exchanges is limited: one address gets at most half of them,
so others always find room. The rest wait for a moment.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

from app.console.sign_in.pending import PENDING_SECONDS

MAX_CONCURRENT = 16

# People behind a proxy share an address.
MAX_PER_PEER = MAX_CONCURRENT // 2

MAX_USED = 10_000
"""Remembered states, 200 bytes each. If more are used within ten minutes, the oldest can be used
again, which costs the sender more than starting another sign-in."""

WAIT_SECONDS = 10.0


class AlreadyUsed(Exception):
    """The provider's answer to this sign-in was redeemed before."""


class Busy(Exception):
    """No room within `WAIT_SECONDS`. The sign-in was not used."""


class CodeExchanges:
    """``clock`` is monotonic, in seconds; ``wait`` is how long an exchange waits for room."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, wait: float = WAIT_SECONDS
    ) -> None:
        self._clock = clock
        self._wait = wait
        self._used: OrderedDict[str, float] = OrderedDict()
        self._all = asyncio.Semaphore(MAX_CONCURRENT)
        self._by_peer: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def exchange(self, state: str, peer: str) -> AsyncIterator[None]:
        """Redeem the answer to the sign-in ``state``. Raises `AlreadyUsed` or `Busy`."""
        self._use(state)
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._wait):
                    await stack.enter_async_context(self._room_of(peer))
                    await stack.enter_async_context(self._all)
            except TimeoutError:
                self._used.pop(state, None)
                raise Busy from None
            yield

    @property
    def remembered(self) -> tuple[int, int]:
        """The numbers of states and of addresses in memory."""
        return len(self._used), len(self._by_peer)

    def _use(self, state: str) -> None:
        now = self._clock()
        while self._used and next(iter(self._used.values())) + PENDING_SECONDS < now:
            self._used.popitem(last=False)
        if state in self._used:
            raise AlreadyUsed
        self._used[state] = now
        if len(self._used) > MAX_USED:
            self._used.popitem(last=False)

    @contextlib.asynccontextmanager
    async def _room_of(self, peer: str) -> AsyncIterator[None]:
        room = self._by_peer.setdefault(peer, asyncio.Semaphore(MAX_PER_PEER))
        self._users[peer] = self._users.get(peer, 0) + 1
        try:
            async with room:
                yield
        finally:
            self._users[peer] -= 1
            if not self._users[peer]:
                del self._users[peer], self._by_peer[peer]
