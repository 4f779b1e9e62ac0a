"""Asks Redis whether a session is dead: one round trip for each check.

`SessionGuard` is for threads, `AsyncSessionGuard` for asyncio; both share `_Reading`, which
knows what to ask and what an answer means. Neither keeps an answer: what Redis says counts.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from .decision import Verdict, decide, marker_keys
from .keys import AppKeys
from .session import Session

# A user waits for each check. Redis on the same network answers within a millisecond, so
# half a second is a failure, not a delay.
DEFAULT_TIMEOUT = 0.5

# How long the app's max_session_age is believed before it is read again, in seconds. It
# changes when an operator changes the receiver's settings.
META_LIFE = 60.0

OnOutage = Literal["deny", "allow"]


class RevocationUnknown(Exception):
    """Redis did not answer in time: nobody knows whether the session is dead.

    Answer 503 and keep the session: its user has not been signed out. Only raised where
    ``on_outage="deny"``, the default.
    """


class GuardMisconfigured(RevocationUnknown):
    """The receiver has never served this app in this Redis: a wrong URL or a wrong name."""


class _Reading:
    """What to ask and what the answer means; knows no connection."""

    def __init__(self, app: str, clock: Callable[[], float]) -> None:
        self.keys = AppKeys(app)
        self.clock = clock
        self._max_session_age = 0
        self._meta_until = float("-inf")

    @property
    def meta_is_old(self) -> bool:
        return time.monotonic() >= self._meta_until

    def learn(self, max_session_age: bytes | str | None) -> None:
        """Take over the ``max_session_age`` of the app's ``meta``."""
        if max_session_age is None:
            raise GuardMisconfigured(
                f"no receiver has written {self.keys.meta}: "
                "is this the receiver's Redis, and does it serve this app?"
            )
        self._max_session_age = int(max_session_age)
        self._meta_until = time.monotonic() + META_LIFE

    def is_dead(self, session: Session, markers: list[bytes | str | None]) -> bool:
        verdict = decide(session, markers, max_session_age=self._max_session_age, now=self.clock())
        return verdict is not Verdict.ALIVE


def _session(session: Session | Mapping[str, Any]) -> Session:
    return session if isinstance(session, Session) else Session.from_mapping(session)


# ValueError: a marker that can not be read must not be taken for "alive".
_OUTAGE = (RedisError, OSError, ValueError, GuardMisconfigured)


def _outage(on_outage: OnOutage, error: Exception) -> bool:
    """The answer where Redis gave none. A wrong setting is never taken for an outage."""
    if isinstance(error, GuardMisconfigured):
        raise error
    if on_outage == "allow":
        return False
    raise RevocationUnknown(
        f"Redis did not say whether the session is dead: {type(error).__name__}"
    ) from error


class SessionGuard:
    """Tells whether a session of the relying app ``app`` was ended; for threads.

    ``redis_url`` is the receiver's Redis; ``timeout`` (seconds) bounds each step of a check.
    Where Redis does not answer, ``on_outage="deny"`` raises `RevocationUnknown`, and
    ``"allow"`` takes the session for alive: then an outage brings ended sessions back for
    as long as it lasts.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        app: str,
        on_outage: OnOutage = "deny",
        timeout: float = DEFAULT_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reading = _Reading(app, clock)
        self._on_outage = on_outage
        # No retries: the library's default of ten turns a short timeout into many seconds.
        self._redis = redis.Redis.from_url(
            redis_url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )

    def is_revoked(self, session: Session | Mapping[str, Any]) -> bool:
        """Whether the session is dead: ended by its provider, or older than the app allows.

        Takes a `Session`, or the mapping that `remember` filled. Raises
        `SessionNotIdentified` where the mapping was not filled, `RevocationUnknown` where
        Redis does not answer.
        """
        asked = _session(session)
        wanted = marker_keys(self._reading.keys, asked)
        try:
            if self._reading.meta_is_old:
                pipeline = self._redis.pipeline(transaction=False)
                pipeline.mget(wanted)
                pipeline.hget(self._reading.keys.meta, "max_session_age")
                markers, max_session_age = pipeline.execute()
                self._reading.learn(max_session_age)
            else:
                markers = self._redis.mget(wanted)
            return self._reading.is_dead(asked, markers)
        except _OUTAGE as error:
            return _outage(self._on_outage, error)

    def close(self) -> None:
        """Close the connections to Redis."""
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSessionGuard:
    """Tells whether a session of the relying app ``app`` was ended; for asyncio.

    As `SessionGuard`; ``timeout`` (seconds) bounds the whole check.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        app: str,
        on_outage: OnOutage = "deny",
        timeout: float = DEFAULT_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reading = _Reading(app, clock)
        self._on_outage = on_outage
        self._timeout = timeout
        self._redis: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            redis_url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=AsyncRetry(NoBackoff(), 0),
        )

    async def is_revoked(self, session: Session | Mapping[str, Any]) -> bool:
        """Whether the session is dead; see `SessionGuard.is_revoked`."""
        asked = _session(session)
        wanted = marker_keys(self._reading.keys, asked)
        try:
            async with asyncio.timeout(self._timeout):
                if self._reading.meta_is_old:
                    pipeline = self._redis.pipeline(transaction=False)
                    pipeline.mget(wanted)
                    pipeline.hget(self._reading.keys.meta, "max_session_age")
                    markers, max_session_age = await pipeline.execute()
                    self._reading.learn(max_session_age)
                else:
                    markers = await self._redis.mget(wanted)
            return self._reading.is_dead(asked, markers)
        except _OUTAGE as error:
            return _outage(self._on_outage, error)

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
