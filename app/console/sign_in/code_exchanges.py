"""Bounds the requests to the token endpoint that answers of the provider cause.

Anybody can begin a sign-in and answer it with a guessed code. Codes cannot be guessed, so nobody is
locked out for a wrong one. Instead each sign-in that was begun is redeemed once, which costs the
sender a request of its own, and only some are redeemed at the same time: at most half of them for
one address, so that the others always find room. The rest wait for a moment.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

from app.console.sign_in.pending import PENDING_SECONDS

MAX_AT_ONCE = 16

# People behind a proxy share an address.
MAX_OF_ONE = MAX_AT_ONCE // 2

MAX_USED = 10_000
"""States that are remembered, 200 bytes each. Where more are used within ten minutes, the oldest
can be used again: that costs the sender more than beginning another sign-in."""

WAIT_SECONDS = 10.0


class AlreadyUsed(Exception):
    """The provider's answer to this sign-in was redeemed before."""


class Busy(Exception):
    """No room within `WAIT_SECONDS`. The sign-in was not used."""


class CodeExchanges:
    """``clock`` is a monotonic one, in seconds; ``wait`` is for how long one waits for room."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, wait: float = WAIT_SECONDS
    ) -> None:
        self._clock = clock
        self._wait = wait
        self._used: OrderedDict[str, float] = OrderedDict()
        self._all = asyncio.Semaphore(MAX_AT_ONCE)
        self._of_one: dict[str, asyncio.Semaphore] = {}
        self._users: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def one(self, state: str, peer: str) -> AsyncIterator[None]:
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
        """How many states and addresses are held."""
        return len(self._used), len(self._of_one)

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
        room = self._of_one.setdefault(peer, asyncio.Semaphore(MAX_OF_ONE))
        self._users[peer] = self._users.get(peer, 0) + 1
        try:
            async with room:
                yield
        finally:
            self._users[peer] -= 1
            if not self._users[peer]:
                del self._users[peer], self._of_one[peer]
