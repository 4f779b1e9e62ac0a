"""The tail: reads the stream of an app for as long as the process lives, and keeps a cache true.

A few readers wait in Redis and know a logout at once. Many do not wait but ask again and again:
a logout has to wake every process that waits, and two thousand of them slow down the receiver.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from backchannel_logout.checker import GuardMisconfigured, RevocationUnknown
from backchannel_logout.near import cache as near_cache
from backchannel_logout.near.cache import NearCache
from backchannel_logout.near.event_reader import EventReader, NotThePrimary
from backchannel_logout.near.reports import Reports
from backchannel_logout.redis.cancellation import end_if_cancelled
from backchannel_logout.redis.connection import AsyncClient, Command
from backchannel_logout.redis.primary_link import PrimaryLink

log = logging.getLogger("backchannel_logout")

MAX_BLOCKING_READERS = 50
"""So many readers of an app may wait in Redis: a logout wakes them all within a millisecond."""

READ_EVERY = 0.5
"""Seconds between two reads of who does not wait, give or take a fifth: so the reads of many
processes spread, and a logout is known everywhere within a second."""

# Between two reads of who waits: what comes in a storm is read together.
_GATHER = 0.01

# Seconds between two questions to the Sentinels, where `max_stale` is no shorter.
_LOOK_UP_EVERY = 2.0

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0

# Somebody must act: it makes no sense to try each second.
_REFUSED_PAUSE = 15.0

_FAULTS = (RedisError, RedisClusterException, RevocationUnknown, OSError)


class Tail:
    """Keeps ``cache`` true by what ``following`` reads through ``client``.

    ``connected`` is awaited when another server may be the primary, before anything that it
    says is kept; ``changed`` is called whenever something was dropped. Times are in seconds.
    """

    def __init__(
        self,
        client: AsyncClient,
        following: EventReader,
        cache: NearCache,
        reports: Reports,
        *,
        timeout: float,
        connected: Callable[[], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self._client = client
        self._following = following
        self._cache = cache
        self._reports = reports
        self._timeout = timeout
        self._look_up_every = min(_LOOK_UP_EVERY, cache.max_stale / 3)
        # Well within the time that a connection may be silent.
        self._wait = min(timeout / 2, READ_EVERY)
        self._connected = connected
        self._changed = changed
        self._told = ""

    async def run(self) -> None:
        """Never returns; cancel it."""
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._follow()
            except _FAULTS as fault:
                end_if_cancelled()
                self._tell(fault)
                if isinstance(fault, ResponseError | RevocationUnknown | NotThePrimary):
                    self._cache.close()
                    self._changed()
                lasting = isinstance(fault, NoPermissionError | AuthenticationError)
                if time.monotonic() - began > _LONGEST_PAUSE:
                    pause = _FIRST_PAUSE
                await asyncio.sleep(pause * _spread())
                pause = min(2 * pause, _REFUSED_PAUSE if lasting else _LONGEST_PAUSE)

    async def _follow(self) -> None:
        """Follow one server until something is wrong there."""
        async with contextlib.AsyncExitStack() as stack:
            looked_up_at = near_cache.now()
            async with asyncio.timeout(self._timeout):
                link = await stack.enter_async_context(
                    PrimaryLink.open(self._client, self._reports.key)
                )
            end_if_cancelled()
            self._following.begin(await self._ask(link, self._following.first()))
            await self._connected()
            self._cache.clear()
            # Who may not read has no contact.
            await self._read(link, looked_up_at, 0)
            self._changed()
            self._tell(None)
            try:
                await self._read_on(link, looked_up_at)
            except asyncio.CancelledError:
                with contextlib.suppress(*_FAULTS):
                    async with asyncio.timeout(self._timeout):
                        await link.part(self._reports.last())
                raise

    async def _read_on(self, link: PrimaryLink, looked_up_at: float) -> None:
        while True:
            while await self._read(link, looked_up_at, self._wait if self._may_wait() else 0):
                pass
            await asyncio.sleep(_GATHER if self._may_wait() else READ_EVERY * _spread())
            now = near_cache.now()
            if link.is_elected and now - looked_up_at >= self._look_up_every:
                async with asyncio.timeout(self._timeout):
                    if await link.has_moved():
                        raise NotThePrimary("the Sentinels name another primary")
                looked_up_at = now

    async def _read(self, link: PrimaryLink, looked_up_at: float, wait: float) -> bool:
        """True: there is more."""
        commands = self._following.next(wait)
        report = self._reports.due(self._following.position)
        before = self._cache.fence()
        sent_at = near_cache.now()
        answers = await self._ask(link, [*commands, *report])
        # Where Sentinels elect, a server is the primary for sure when they have said so.
        known_at = min(sent_at, looked_up_at) if link.is_elected else sent_at
        more = self._following.take(answers[: len(commands)], known_at)
        if tidy := self._reports.answered(answers[len(commands) :]):
            await self._ask(link, tidy)
        if self._cache.fence() != before:
            self._changed()
        return more

    def _may_wait(self) -> bool:
        """Who does not know how many there are is one of many."""
        return self._reports.readers is not None and self._reports.readers <= MAX_BLOCKING_READERS

    async def _ask(self, link: PrimaryLink, commands: Sequence[Command]) -> list[Any]:
        async with asyncio.timeout(self._timeout):
            answers = await link.ask(commands)
        end_if_cancelled()
        return answers

    def _tell(self, fault: Exception | None) -> None:
        """Once for each state: it is tried again and again."""
        told = "" if fault is None else type(fault).__name__
        if told != self._told:
            if isinstance(fault, ResponseError | GuardMisconfigured):
                log.warning("no answer is kept: Redis is asked at each check (%s)", fault)
            elif fault is not None:
                log.info("the tail has lost Redis: %s", told)
            else:
                log.info("the tail follows Redis again")
            self._told = told


def _spread() -> float:
    return random.uniform(0.8, 1.2)  # noqa: S311  spreads the reads of many processes
