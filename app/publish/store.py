"""Redis: one atomic script for each revocation, and what every relying app must find there.

The contract of the keys is in the client package; the script in `store.lua` opens with its
key map.
"""

import asyncio
import hashlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any, TypeVar, cast

from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from app.errors import DependencyUnavailable, Outage
from app.revocation import Revocation
from backchannel_logout import AppKeys
from backchannel_logout.connection import AsyncClient
from backchannel_logout.keys import VERSION

from .redis_link import REDIS_SECONDS

log = logging.getLogger(__name__)

_SCRIPT = files(__package__).joinpath("store.lua").read_text("utf-8")
_SCRIPT_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

# A restart or a failover refuses connections for a moment; the script may run twice.
_RETRY_PAUSE = 0.05

# A Cluster client says in its own way that no server answers.
_PASSING = (RedisConnectionError, RedisClusterException, BusyLoadingError, TryAgainError)

_T = TypeVar("_T")


class Store:
    """Writes revocations. ``apps`` maps each relying app to its ``max_session_age``, seconds."""

    def __init__(
        self,
        redis: AsyncClient,
        *,
        apps: Mapping[str, int],
        event_retention: float,
        event_max_len: int,
        clock: Callable[[], float],
    ) -> None:
        self._redis = redis
        self._apps = dict(apps)
        self._max_len = event_max_len
        self._max_age_ms = math.ceil(event_retention * 1000)
        self._clock = clock
        self.last_error: str | None = "not asked yet"
        """What Redis said last to `take_pulse`; None when it took the write."""

    async def write(self, revocation: Revocation) -> bool:
        """Write markers, events and jti. False: the message was seen before, nothing changed.

        Raises `DependencyUnavailable` when Redis has not acknowledged the whole within its
        deadline. Then it may have been written or not; writing it again is harmless.
        """
        keys, args = self._arguments(revocation)
        try:
            return await self._in_time(lambda: self._run(keys, args)) == 1
        except DependencyUnavailable as error:
            log.warning(
                "redis app=%s outcome=failed error=%s", revocation.event.app, error.__cause__
            )
            raise

    async def take_pulse(self) -> None:
        """Write the ``meta`` of each app where it is missing, and one of them always.

        So a Redis that came back empty is served again, and `last_error` says whether it
        takes writes.
        """
        before = self.last_error
        try:
            await self._in_time(self._write_meta)
        except DependencyUnavailable as error:
            self.last_error = str(error.__cause__)
        else:
            self.last_error = None
        if self.last_error != before:
            log.info("redis writable=%s error=%s", self.last_error is None, self.last_error or "-")

    async def _write_meta(self) -> None:
        metas: dict[str, dict[Any, Any]] = {
            AppKeys(app).meta: {"v": str(VERSION), "max_session_age": str(age)}
            for app, age in self._apps.items()
        }
        pipeline = self._redis.pipeline(transaction=False)
        for key in metas:
            pipeline.hgetall(key)
        found = await pipeline.execute()
        stale = [
            (key, meta)
            for (key, meta), old in zip(metas.items(), found, strict=True)
            if {name.encode(): value.encode() for name, value in meta.items()} != old
        ]
        pipeline = self._redis.pipeline(transaction=False)
        for key, meta in stale or [next(iter(metas.items()))]:
            pipeline.hset(key, mapping=meta)
        await pipeline.execute()

    def _arguments(self, revocation: Revocation) -> tuple[list[str], list[str | int]]:
        event, names = revocation.event, revocation.issuer_names
        app = AppKeys(event.app)
        keys = [app.events, *revocation.marker_keys]
        once_ms = 0
        if revocation.once is not None and (once_key := revocation.once_key) is not None:
            once_ms = max(0, math.ceil((revocation.once.until - self._clock()) * 1000))
            if once_ms:
                keys.append(once_key)
        args: list[str | int] = [
            event.cutoff, revocation.life, once_ms,
            self._max_len, self._max_age_ms, app.feed, len(names),
        ]  # fmt: skip
        for name in names:
            named = replace(event, iss=name)
            fields = named.to_fields()
            args += [named.to_json(), 2 * len(fields)]
            for field, value in fields.items():
                args += [field, value]
        return keys, args

    async def _run(self, keys: list[str], args: Iterable[str | int]) -> int:
        try:
            reply = self._redis.evalsha(_SCRIPT_SHA, len(keys), *keys, *args)
            return await cast("Awaitable[int]", reply)
        except NoScriptError:
            reply = self._redis.eval(_SCRIPT, len(keys), *keys, *args)
            return await cast("Awaitable[int]", reply)

    async def _in_time(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Run ``call`` within the deadline, again for as long as connections fail at once."""
        fault = "timeout"
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                while True:
                    try:
                        return await call()
                    except _PASSING as error:
                        fault = _name(error)
                        await asyncio.sleep(_RETRY_PAUSE)
        except TimeoutError:
            pass
        except RedisError as error:
            fault = _name(error)
        raise DependencyUnavailable(Outage.REDIS_UNAVAILABLE) from RedisFault(fault)


class RedisFault(Exception):
    """What Redis or the way to it said, without a word of the data."""


def _name(error: Exception) -> str:
    """The first word of a Redis error (``OOM``, ``READONLY``, ...), or the exception's name."""
    word = str(error).partition(" ")[0]
    if isinstance(error, ResponseError) and word.isalpha() and word.isupper():
        return word
    return type(error).__name__
