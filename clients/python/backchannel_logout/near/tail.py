"""Reads an app's stream for as long as the process lives, and keeps a near cache true.

A few readers block in Redis and learn of a logout at once. Many do not block but poll: a logout
wakes every blocked process, and two thousand of them slow down the receiver.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from backchannel_logout.guard_errors import GuardMisconfigured, RevocationUnknown
from backchannel_logout.near import cache as near_cache
from backchannel_logout.near.cache import NearCache
from backchannel_logout.near.event_reader import EventReader, NotThePrimary
from backchannel_logout.near.reports import Reports
from backchannel_logout.redis.cancellation import end_if_cancelled
from backchannel_logout.redis.pipeline import Command, Pipeline
from backchannel_logout.redis.primary import FAULTS as REDIS_FAULTS
from backchannel_logout.redis.primary import Primary

log = logging.getLogger("backchannel_logout")

MAX_BLOCKING_READERS = 50
"""With more readers than this an app's readers poll: a logout wakes 50 within a millisecond."""

READ_EVERY = 0.5
"""Seconds between two polls, give or take a fifth: this spreads the reads of many processes, and
every process knows a logout within a second."""

# Between two blocking reads: the events of a burst are read together.
_GATHER = 0.01

# Seconds between two queries to the Sentinels, where `max_stale` is not shorter.
_LOOK_UP_EVERY = 2.0

_FIRST_PAUSE, _MAX_PAUSE = 0.1, 1.0

# Someone must act; trying each second makes no sense.
_REFUSED_PAUSE = 15.0

_FAULTS = (*REDIS_FAULTS, RevocationUnknown)


class Tail:
    """Keeps ``cache`` true with what ``reader`` reads from ``primary``.

    ``connected`` is awaited when another server may be the primary, before any of its answers is
    kept. ``changed`` is called after something was dropped. Times are in seconds.
    """

    def __init__(
        self,
        primary: Primary,
        reader: EventReader,
        cache: NearCache,
        reports: Reports,
        *,
        timeout: float,
        connected: Callable[[], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self._primary = primary
        self._reader = reader
        self._cache = cache
        self._reports = reports
        self._timeout = timeout
        self._look_up_every = min(_LOOK_UP_EVERY, cache.max_stale / 3)
        # Well within the time that a connection may be silent.
        self._wait = min(timeout / 2, READ_EVERY)
        self._connected = connected
        self._changed = changed
        self._logged = ""

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            await self._run()
        finally:
            with contextlib.suppress(*_FAULTS):
                await self._primary.aclose()

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._follow()
            except _FAULTS as fault:
                end_if_cancelled()
                self._log(fault)
                if isinstance(fault, ResponseError | RevocationUnknown | NotThePrimary):
                    self._cache.close()
                    self._changed()
                lasting = isinstance(fault, NoPermissionError | AuthenticationError)
                if time.monotonic() - began > _MAX_PAUSE:
                    pause = _FIRST_PAUSE
                await asyncio.sleep(pause * _spread())
                pause = min(2 * pause, _REFUSED_PAUSE if lasting else _MAX_PAUSE)

    async def _follow(self) -> None:
        """Read from one server until a fault."""
        looked_up_at = near_cache.now()
        try:
            async with asyncio.timeout(self._timeout):
                await self._primary.look_up()
                pipeline = await self._primary.pipeline()
            end_if_cancelled()
            self._reader.begin(await self._exchange(pipeline, self._reader.first()))
            await self._connected()
            self._cache.clear()
            # Without read permission the tail is not in contact.
            await self._read(pipeline, looked_up_at, 0)
            self._changed()
            self._log(None)
            try:
                await self._read_on(pipeline, looked_up_at)
            except asyncio.CancelledError:
                await self._say_farewell()
                raise
        finally:
            await self._primary.hang_up()

    async def _read_on(self, pipeline: Pipeline, looked_up_at: float) -> None:
        while True:
            while await self._read(pipeline, looked_up_at, self._wait if self._may_block() else 0):
                pass
            await asyncio.sleep(_GATHER if self._may_block() else READ_EVERY * _spread())
            now = near_cache.now()
            if self._primary.has_sentinels and now - looked_up_at >= self._look_up_every:
                async with asyncio.timeout(self._timeout):
                    if await self._primary.look_up():
                        raise NotThePrimary("the Sentinels name another primary")
                looked_up_at = now

    async def _read(self, pipeline: Pipeline, looked_up_at: float, wait: float) -> bool:
        """True: there are more events."""
        commands = self._reader.next(wait)
        report = self._reports.due(self._reader.position)
        before = self._cache.fence()
        sent_at = near_cache.now()
        replies = await self._exchange(pipeline, [*commands, *report])
        # Behind Sentinels, a server is known to be the primary only as of their last reply.
        known_at = min(sent_at, looked_up_at) if self._primary.has_sentinels else sent_at
        more = self._reader.process(replies[: len(commands)], known_at)
        if removal := self._reports.process(replies[len(commands) :]):
            await self._exchange(pipeline, removal)
        if self._cache.fence() != before:
            self._changed()
        return more

    def _may_block(self) -> bool:
        """Unknown reader count: assume many."""
        return self._reports.readers is not None and self._reports.readers <= MAX_BLOCKING_READERS

    async def _exchange(self, pipeline: Pipeline, commands: Sequence[Command]) -> list[Any]:
        async with asyncio.timeout(self._timeout):
            await pipeline.send(commands)
            return await pipeline.receive(len(commands))

    async def _say_farewell(self) -> None:
        if commands := self._reports.last():
            with contextlib.suppress(*_FAULTS):
                async with asyncio.timeout(self._timeout):
                    await self._primary.run(commands)

    def _log(self, fault: Exception | None) -> None:
        """Once per state: the tail retries all the time."""
        state = "" if fault is None else type(fault).__name__
        if state != self._logged:
            if isinstance(fault, ResponseError | GuardMisconfigured):
                log.warning("no answer is kept: Redis is asked at each check (%s)", fault)
            elif fault is not None:
                log.info("the tail has lost Redis: %s", state)
            else:
                log.info("the tail follows Redis again")
            self._logged = state


def _spread() -> float:
    return random.uniform(0.8, 1.2)  # noqa: S311  spreads the reads of many processes
