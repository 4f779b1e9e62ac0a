"""A listener, which receives each logout of its relying app, for sessions without a next request.

    async with AsyncListener("redis://127.0.0.1:6379/0", app="shop", mode="group") as listener:
        async for item in listener:
            if isinstance(item, Gap):
                await check_all_sessions()      # which_revoked of a guard
            else:
                await end_sessions(item)        # an Event

An item counts as handled when the loop fetches the next one; after an exception or a `break` it is
delivered again. `Listener` is the same for threads.
"""

import asyncio
import contextlib
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import Literal, Self

from redis.exceptions import AuthenticationError, ResponseError

from backchannel_logout.contract.event import Event
from backchannel_logout.contract.gap import Gap
from backchannel_logout.contract.keys import AppKeys
from backchannel_logout.contract.readers import process_name
from backchannel_logout.listening.broadcast import BroadcastLoop
from backchannel_logout.listening.group import GroupLoop
from backchannel_logout.listening.inflight import Delivery
from backchannel_logout.listening.loop import TIMEOUT, ListenerLoop
from backchannel_logout.listening.options import Options
from backchannel_logout.redis.connection import AsyncClient
from backchannel_logout.redis.primary import FAULTS, Primary

log = logging.getLogger("backchannel_logout")

Item = Event | Gap
Mode = Literal["group", "broadcast"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""The form of a listener's name, which is part of a key."""

_FIRST_PAUSE, _MAX_PAUSE = 0.05, 3.0

# An outage is logged when it begins; a refusal, which stays until someone acts, once a minute.
_LOG_PAUSE = 60.0

# How long `aclose` waits for the item in progress.
GRACE_SECONDS = 10.0


class AsyncListener:
    """Delivers the revocations of the relying app ``app``, for asyncio.

    ``redis`` is the receiver's Redis: a URL (see `connection`) or the app's own client.

    ``mode="group"``: all listeners of one ``name`` (``"default"``) share the work; each event is
    handled by one of them, at least once. ``mode="broadcast"``: each listener receives each event.
    With a ``name``, which must be this replica's alone, it continues where the last process of that
    name was; without one it begins with new events.

    Items are `Event` and `Gap`. After ``tries`` failures an event becomes a dead letter;
    ``retry_after`` (seconds) is the first pause, each further one is four times as long.
    ``take_over_after`` (group; seconds): a replica that is silent for this long is dead, and others
    handle its events. ``start`` (group): a new group begins at the ``"oldest"`` event, or with new
    ones from ``"now"`` on. ``poll_every`` (broadcast; seconds): poll this often instead of blocking
    in Redis, for thousands of listeners. ``receipts=False`` writes none.

    Faults of Redis are logged and retried. Raises ``ValueError`` for invalid arguments.
    """

    def __init__(
        self,
        redis: str | AsyncClient,
        *,
        app: str,
        mode: Mode,
        name: str | None = None,
        tries: int = 5,
        retry_after: float = 1.0,
        take_over_after: float = 30.0,
        start: Literal["oldest", "now"] = "oldest",
        poll_every: float | None = None,
        receipts: bool = True,
    ) -> None:
        if mode not in ("group", "broadcast"):
            raise ValueError('mode is "group" or "broadcast"')
        if start not in ("oldest", "now"):
            raise ValueError('start is "oldest" or "now"')
        if mode == "group" and name is None:
            name = "default"
        if name is not None and not NAME.fullmatch(name):
            raise ValueError(f"not a listener's name: {name!r} ({NAME.pattern})")
        if tries < 1 or retry_after < 0 or take_over_after <= 0:
            raise ValueError("tries is at least 1, retry_after and take_over_after are positive")
        if poll_every is not None and (mode == "group" or poll_every <= 0):
            raise ValueError("poll_every is for broadcast, in seconds above 0")
        keys = AppKeys(app)
        options = Options(
            keys=keys,
            name=name,
            reader=process_name(),
            tries=tries,
            retry_after=retry_after,
            take_over_after=take_over_after,
            start=start,
            poll_every=poll_every,
            receipts=receipts,
        )
        # A listener that polls needs one connection only, so there can be thousands.
        self._primary = Primary(
            redis, keys.events, timeout=TIMEOUT, one_at_a_time=poll_every is not None
        )
        kind = GroupLoop if mode == "group" else BroadcastLoop
        self._loop: ListenerLoop = kind(self._primary, options)
        self._tick = min(1.0, take_over_after / 4)
        self._upkeep: asyncio.Task[None] | None = None
        self._current: Delivery | None = None
        self._closing = asyncio.Event()
        self._left = asyncio.Event()
        self._loop_task: asyncio.Task[object] | None = None
        self._faults = 0
        self._log_from = float("-inf")

    # -- one item after another ------------------------------------------------------------

    def __aiter__(self) -> Self:
        """Begin a loop. An item that an earlier loop left unfinished has failed."""
        self.abandon()
        return self

    async def __anext__(self) -> Item:
        """The next item; the previous one was handled. Ends when the listener is closed."""
        if self._current is not None:
            delivery, self._current = self._current, None
            self._loop.done(delivery)
        self._loop_task = asyncio.current_task()
        while not self._closing.is_set():
            self._ensure_upkeep()
            try:
                delivery = await self._loop.next()
            except FAULTS as error:
                await self._outage(error)
                continue
            self._outage_is_over()
            self._current = delivery
            return delivery.item
        self._left.set()
        raise StopAsyncIteration

    def abandon(self, error: BaseException | None = None) -> None:
        """The last delivered item was not handled."""
        if self._current is not None:
            delivery, self._current = self._current, None
            self._loop.failed(delivery, error or LoopEnded())

    async def run(
        self,
        handler: Callable[[Event], Awaitable[object]],
        *,
        on_gap: Callable[[Gap], Awaitable[object]],
    ) -> None:
        """Call ``handler`` with each event and ``on_gap`` with each gap, until `aclose`.

        An exception of a handler is logged by its type. The event is retried after a pause, during
        which others are handled; after ``tries`` it is a dead letter. Gaps are retried forever.
        """
        async for item in self:
            try:
                if isinstance(item, Gap):
                    await on_gap(item)
                else:
                    await handler(item)
            except Exception as error:  # noqa: BLE001  the app's own exceptions
                self.abandon(error)

    # -- faults of Redis -------------------------------------------------------------------

    async def _outage(self, error: Exception) -> None:
        if self._closing.is_set():
            return
        self._faults += 1
        now, name = time.monotonic(), type(error).__name__
        if isinstance(error, AuthenticationError | ResponseError) and now >= self._log_from:
            self._log_from = now + _LOG_PAUSE
            log.error("Redis refuses the listener of %s: %s", self._app, name)
        elif self._faults == 1:
            log.warning("the listener of %s has no Redis: %s", self._app, name)
        pause = min(_MAX_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._faults, 10))
        with contextlib.suppress(TimeoutError):
            pause *= random.uniform(0.5, 1.0)  # noqa: S311  spreads reconnects
            await asyncio.wait_for(self._closing.wait(), pause)
        with contextlib.suppress(*FAULTS):
            await self._primary.disconnect()
            await self._primary.look_up()

    def _outage_is_over(self) -> None:
        if self._faults:
            self._faults = 0
            self._loop.after_outage()
            log.info("the listener of %s reads on", self._app)

    @property
    def _app(self) -> str:
        return self._loop.keys.app

    # -- upkeep ----------------------------------------------------------------------------

    def _ensure_upkeep(self) -> None:
        if self._upkeep is None:
            self._upkeep = asyncio.create_task(self._keep_up())
        elif self._upkeep.done():
            self._upkeep.result()

    async def _keep_up(self) -> None:
        while not self._closing.is_set():
            try:
                await self._loop.keep_up()
            except FAULTS:
                # The blocked read may be on a dead connection.
                self._loop.deadlines.interrupt()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._tick)

    # -- the end ---------------------------------------------------------------------------

    async def aclose(self) -> None:
        """End the loop, also while it waits, and close the connections.

        A loop in another task may finish its item, for ten seconds at most. Unhandled items are
        delivered again, in group mode to another replica.
        """
        self.stop()
        await self._wait_for_loop()
        if self._upkeep is not None:
            # Not cancelled: it ends on its own, after the command in progress.
            await asyncio.gather(self._upkeep, return_exceptions=True)
            with contextlib.suppress(*FAULTS):
                async with asyncio.timeout(TIMEOUT):
                    await self._loop.close()
        await self._primary.aclose()

    def stop(self) -> None:
        """End the loop at its next item, without waiting for it."""
        self._closing.set()
        self._loop.deadlines.close()

    async def _wait_for_loop(self) -> None:
        loop_task = self._loop_task
        if loop_task is None or loop_task is asyncio.current_task() or loop_task.done():
            return
        left = asyncio.create_task(self._left.wait())
        await asyncio.wait(
            {left, loop_task}, timeout=GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        left.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class LoopEnded(Exception):
    """The loop over a listener ended before it fetched the next item."""
