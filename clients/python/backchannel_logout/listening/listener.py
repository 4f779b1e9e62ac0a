"""A listener: is told of each logout of its relying app, in order to end what has no next request.

    async with AsyncListener("redis://127.0.0.1:6379/0", app="shop", mode="group") as listener:
        async for item in listener:
            if isinstance(item, Gap):
                await check_all_sessions()      # which_revoked of a guard
            else:
                await end_sessions(item)        # an Event

An item counts as handled when the loop asks for the next one; one whose loop ended with an
exception, or with `break`, is delivered again. `Listener` is the same for threads.
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
from backchannel_logout.listening.deliveries import Delivery
from backchannel_logout.listening.group import GroupLoop
from backchannel_logout.listening.loop import TIMEOUT, ListenerLoop
from backchannel_logout.listening.options import Options
from backchannel_logout.redis.connection import AsyncClient
from backchannel_logout.redis.primary import FAULTS, Primary

log = logging.getLogger("backchannel_logout")

Item = Event | Gap
Mode = Literal["group", "broadcast"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What a listener's name may look like: it is part of a key."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 3.0

# An outage is told when it begins, and what stays until somebody acts once a minute.
_TELL_SECONDS = 60.0

# What a stop waits for the item in work.
GRACE_SECONDS = 10.0


class AsyncListener:
    """Hands over the revocations of the relying app ``app``, for asyncio.

    ``redis`` is the receiver's Redis: a URL (see `connection`) or a client that the app has.

    ``mode="group"``: all listeners of one ``name`` (``"default"``) share the work; each event is
    handled by one of them, at least once. ``mode="broadcast"``: each listener sees each event. With
    a ``name``, which must then be this replica's alone, it goes on where the last process of that
    name was; without one it begins with what comes from now on.

    Items are `Event` and `Gap`. An event with which a handler has failed ``tries`` times becomes a
    dead letter; ``retry_after`` (seconds) is the first pause, each further one is four times as
    long. ``take_over_after`` (group; seconds): a replica that has been silent for so long is dead,
    and others handle its events. ``start`` (group): a new group begins at the ``"oldest"`` event
    that there is, or with what comes from ``"now"`` on. ``poll_every`` (broadcast; seconds): ask so
    often in place of waiting in Redis, where there are thousands of listeners.
    ``receipts=False`` writes none.

    Faults of Redis end nothing: they are logged, and it is tried again. Raises ``ValueError``
    for arguments that can not be.
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
        # Where nothing waits in Redis one connection does, which thousands of listeners can afford.
        self._primary = Primary(
            redis, keys.events, timeout=TIMEOUT, one_at_a_time=poll_every is not None
        )
        kind = GroupLoop if mode == "group" else BroadcastLoop
        self._reading: ListenerLoop = kind(self._primary, options)
        self._tick = min(1.0, take_over_after / 4)
        self._upkeep: asyncio.Task[None] | None = None
        self._current: Delivery | None = None
        self._closing = asyncio.Event()
        self._left = asyncio.Event()
        self._loop_of: asyncio.Task[object] | None = None
        self._faults = 0
        self._tell_from = float("-inf")

    # -- one item after the other ----------------------------------------------------------

    def __aiter__(self) -> Self:
        """A loop begins. What an earlier one has left unfinished has failed."""
        self.abandon()
        return self

    async def __anext__(self) -> Item:
        """The next item, after the one before was handled. Ends when the listener is closed."""
        if self._current is not None:
            delivery, self._current = self._current, None
            self._reading.done(delivery)
        self._loop_of = asyncio.current_task()
        while not self._closing.is_set():
            self._look_after_upkeep()
            try:
                delivery = await self._reading.next()
            except FAULTS as error:
                await self._outage(error)
                continue
            self._outage_is_over()
            self._current = delivery
            return delivery.item
        self._left.set()
        raise StopAsyncIteration

    def abandon(self, error: BaseException | None = None) -> None:
        """The item that was handed over last could not be handled."""
        if self._current is not None:
            delivery, self._current = self._current, None
            self._reading.failed(delivery, error or LoopEnded())

    async def run(
        self,
        handler: Callable[[Event], Awaitable[object]],
        *,
        on_gap: Callable[[Gap], Awaitable[object]],
    ) -> None:
        """Call ``handler`` with each event and ``on_gap`` with each gap, until `aclose`.

        An exception of a handler is logged by its type; the event is tried again after a pause,
        others go on meanwhile, and after ``tries`` it is a dead letter. A gap is tried for ever.
        """
        async for item in self:
            try:
                if isinstance(item, Gap):
                    await on_gap(item)
                else:
                    await handler(item)
            except Exception as error:  # noqa: BLE001  # the app's own, whatever it is
                self.abandon(error)

    # -- faults of Redis -------------------------------------------------------------------

    async def _outage(self, error: Exception) -> None:
        if self._closing.is_set():
            return
        self._faults += 1
        now, name = time.monotonic(), type(error).__name__
        if isinstance(error, AuthenticationError | ResponseError) and now >= self._tell_from:
            self._tell_from = now + _TELL_SECONDS
            log.error("Redis refuses the listener of %s: %s", self._app, name)
        elif self._faults == 1:
            log.warning("the listener of %s has no Redis: %s", self._app, name)
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._faults, 10))
        with contextlib.suppress(TimeoutError):
            pause *= random.uniform(0.5, 1.0)  # noqa: S311  # so that not all come back at once
            await asyncio.wait_for(self._closing.wait(), pause)
        with contextlib.suppress(*FAULTS):
            await self._primary.leave()
            await self._primary.look_up()

    def _outage_is_over(self) -> None:
        if self._faults:
            self._faults = 0
            self._reading.after_outage()
            log.info("the listener of %s reads on", self._app)

    @property
    def _app(self) -> str:
        return self._reading.keys.app

    # -- upkeep ----------------------------------------------------------------------------

    def _look_after_upkeep(self) -> None:
        if self._upkeep is None:
            self._upkeep = asyncio.create_task(self._keep_up())
        elif self._upkeep.done():
            self._upkeep.result()

    async def _keep_up(self) -> None:
        while not self._closing.is_set():
            try:
                await self._reading.upkeep()
            except FAULTS:
                # The read that waits may be on a connection that nothing comes from any more.
                self._reading.waits.interrupt()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._tick)

    # -- the end ---------------------------------------------------------------------------

    async def aclose(self) -> None:
        """End the loop, also one that waits, and close the connections.

        A loop in another task may finish its item, for ten seconds at most. What was delivered
        and not handled is delivered again, in group mode to another replica.
        """
        self.stop()
        await self._wait_for_loop()
        if self._upkeep is not None:
            # Not cancelled: it ends by itself, and a command in work is brought to its end.
            await asyncio.gather(self._upkeep, return_exceptions=True)
            with contextlib.suppress(*FAULTS):
                async with asyncio.timeout(TIMEOUT):
                    await self._reading.close()
        await self._primary.aclose()

    def stop(self) -> None:
        """End the loop at its next item, without waiting for it."""
        self._closing.set()
        self._reading.waits.end()

    async def _wait_for_loop(self) -> None:
        loop_of = self._loop_of
        if loop_of is None or loop_of is asyncio.current_task() or loop_of.done():
            return
        left = asyncio.create_task(self._left.wait())
        await asyncio.wait(
            {left, loop_of}, timeout=GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        left.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class LoopEnded(Exception):
    """The loop over a listener ended before it asked for the next item."""
