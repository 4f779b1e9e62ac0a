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
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    NoPermissionError,
    RedisError,
)
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from .decision import Verdict, decide, marker_keys, whole_number
from .keys import AppKeys
from .session import Session

# A user waits for each check. Redis on the same network answers within a millisecond, so
# half a second is a failure, not a delay.
DEFAULT_TIMEOUT = 0.5

# How long the app's max_session_age is believed before it is read again, in seconds. It
# changes when an operator changes the receiver's settings.
META_LIFE = 60.0

# A burst of checks shares this many connections and waits its turn: each takes well under a
# millisecond, and a connection for each would cost more than the wait.
_MOST_CONNECTIONS = 32

# Threads wait for nobody; each that asks at once has a connection of its own.
_MOST_THREADS = 10_000

OnOutage = Literal["deny", "allow"]


class RevocationUnknown(Exception):
    """Redis did not answer in time: nobody knows whether the session is dead.

    Answer 503 and keep the session: its user has not been signed out. With
    ``on_outage="allow"`` only raised for an answer that can not be read.
    """


class GuardMisconfigured(RevocationUnknown):
    """No answer can come until somebody acts; raised with ``on_outage="allow"`` too.

    Redis refuses this user, or no receiver has served this app in this Redis: a wrong URL,
    password, ACL rule or app name, or a Redis that has lost its data.
    """


class _Reading:
    """What to ask and what the answer means; knows no connection."""

    def __init__(self, app: str, on_outage: OnOutage, clock: Callable[[], float]) -> None:
        if on_outage not in ("deny", "allow"):
            raise ValueError('on_outage is "deny" or "allow"')
        self.keys = AppKeys(app)
        self._on_outage = on_outage
        self._clock = clock
        self._max_session_age = 0
        self._meta_until = float("-inf")

    @property
    def meta_is_old(self) -> bool:
        return time.monotonic() >= self._meta_until

    def question(self, pipeline: Any, wanted: list[str]) -> Any:
        """Both questions in one round trip: the markers, and the app's ``max_session_age``."""
        return pipeline.mget(wanted).hget(self.keys.meta, "max_session_age")

    def is_dead(
        self,
        session: Session,
        markers: list[bytes | str | None],
        *meta: bytes | str | None,
    ) -> bool:
        """Judge an answer; ``meta`` is the ``max_session_age`` where it was asked for."""
        try:
            if meta:
                self._learn(*meta)
            verdict = decide(
                session, markers, max_session_age=self._max_session_age, now=self._clock()
            )
        except ValueError:
            # Somebody wrote a marker for this session; that it says nothing is no outage.
            raise RevocationUnknown("Redis holds a value that is not a number") from None
        return verdict is not Verdict.ALIVE

    def without_answer(self, error: Exception) -> bool:
        """The answer where Redis gave none. A wrong setting is never taken for an outage."""
        if isinstance(error, _REFUSED):
            raise GuardMisconfigured(f"Redis refuses this user: {type(error).__name__}") from error
        if self._on_outage == "allow":
            return False
        raise RevocationUnknown(
            f"Redis did not say whether the session is dead: {type(error).__name__}"
        ) from error

    def _learn(self, max_session_age: bytes | str | None) -> None:
        if max_session_age is None:
            raise GuardMisconfigured(
                f"no receiver has written {self.keys.meta}: "
                "is this the receiver's Redis, and does it serve this app?"
            )
        self._max_session_age = whole_number(max_session_age)
        self._meta_until = time.monotonic() + META_LIFE


# The library's own time-outs are among the first, asyncio's among the second.
_NO_ANSWER = (RedisError, OSError)

_REFUSED = (AuthenticationError, AuthenticationWrongNumberOfArgsError, NoPermissionError)


def _session(session: Session | Mapping[str, Any]) -> Session:
    return session if isinstance(session, Session) else Session.from_mapping(session)


def _options(timeout: float) -> dict[str, Any]:
    """What both guards ask of the library: no more commands and no more time than needed."""
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # Both cost commands for each connection, which an ACL user may not be allowed.
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


class SessionGuard:
    """Tells whether a session of the relying app ``app`` was ended; for threads.

    ``redis_url`` is the receiver's Redis; ``timeout`` (seconds) bounds each step of a check.
    Where Redis does not answer, ``on_outage="deny"`` raises `RevocationUnknown`, and
    ``"allow"`` takes the session for alive: then an outage brings ended sessions back for
    as long as it lasts. ``clock`` gives epoch seconds.
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
        self._reading = _Reading(app, on_outage, clock)
        # No retries: the library's default of ten turns a short timeout into many seconds.
        self._redis = redis.Redis.from_url(
            redis_url,
            retry=Retry(NoBackoff(), 0),
            max_connections=_MOST_THREADS,
            **_options(timeout),
        )

    def is_revoked(self, session: Session | Mapping[str, Any]) -> bool:
        """Whether the session is dead: ended by its provider, or older than the app allows.

        Takes a `Session`, or the mapping that `remember` filled. Raises
        `SessionNotIdentified` where the mapping was not filled, `RevocationUnknown` where
        Redis does not answer.
        """
        reading, asked = self._reading, _session(session)
        wanted = marker_keys(reading.keys, asked)
        try:
            if reading.meta_is_old:
                pipeline = self._redis.pipeline(transaction=False)
                answer = reading.question(pipeline, wanted).execute()
            else:
                answer = [self._redis.mget(wanted)]
        except _NO_ANSWER as error:
            return reading.without_answer(error)
        return reading.is_dead(asked, *answer)

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
        self._reading = _Reading(app, on_outage, clock)
        self._timeout = timeout
        # The library's own limit refuses at once what exceeds it, in place of waiting.
        self._turns = asyncio.Semaphore(_MOST_CONNECTIONS)
        self._redis: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            redis_url,
            retry=AsyncRetry(NoBackoff(), 0),
            **_options(timeout),
        )

    async def is_revoked(self, session: Session | Mapping[str, Any]) -> bool:
        """Whether the session is dead; see `SessionGuard.is_revoked`."""
        reading, asked = self._reading, _session(session)
        wanted = marker_keys(reading.keys, asked)
        try:
            async with asyncio.timeout(self._timeout), self._turns:
                if reading.meta_is_old:
                    pipeline = self._redis.pipeline(transaction=False)
                    answer = await reading.question(pipeline, wanted).execute()
                else:
                    answer = [await self._redis.mget(wanted)]
        except _NO_ANSWER as error:
            return reading.without_answer(error)
        return reading.is_dead(asked, *answer)

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
