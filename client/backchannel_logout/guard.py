"""Asks Redis whether sessions are dead: one round trip for each check.

`SessionGuard` is for threads, `AsyncSessionGuard` for asyncio; both share `_Reading`, which
knows what to ask and what an answer means. Neither keeps an answer: what Redis says counts.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Literal, NoReturn, Self, TypeVar

import redis
import redis.asyncio
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from . import connection
from .decision import Verdict, decide, marker_keys, whole_number
from .keys import AppKeys
from .session import Session

log = logging.getLogger("backchannel_logout")

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

# About 500 bytes each.
_CACHED_KEYS = 8192

OnOutage = Literal["deny", "allow"]
AnySession = Session | Mapping[str, Any]
S = TypeVar("S", bound=AnySession)


class RevocationUnknown(Exception):
    """Redis did not answer in time: nobody knows whether the session is dead.

    Answer 503 and keep the session: its user has not been signed out. With
    ``on_outage="allow"`` only raised for an answer that can not be read.
    """


class GuardMisconfigured(RevocationUnknown):
    """No answer can come until somebody acts; raised with ``on_outage="allow"`` too.

    Redis refuses the check; or no receiver has served this app in this Redis (a wrong URL,
    password, database, ACL rule or app name, or a Redis that has lost its data); or this guard
    was given a larger ``max_session_age`` than the receiver keeps markers for.
    """


@dataclass(frozen=True, slots=True)
class _Question:
    """The sessions of one check, and the marker keys of all of them in a row."""

    sessions: list[Session]
    keys: list[str]
    counts: list[int]


class _Reading:
    """What to ask and what the answer means; knows no connection."""

    def __init__(
        self,
        app: str,
        on_outage: OnOutage,
        max_session_age: int | None,
        clock: Callable[[], float],
    ) -> None:
        if on_outage not in ("deny", "allow"):
            raise ValueError('on_outage is "deny" or "allow"')
        self.keys = AppKeys(app)
        # The same sessions are asked about again and again; the hashes are half of a check.
        self._marker_keys = lru_cache(_CACHED_KEYS)(partial(marker_keys, self.keys))
        self._on_outage = on_outage
        self._own_age = max_session_age
        self._clock = clock
        self._max_session_age = 0
        self._meta_until = float("-inf")
        self._tell_from = float("-inf")

    @property
    def meta_is_old(self) -> bool:
        return time.monotonic() >= self._meta_until

    def question(self, sessions: Iterable[AnySession]) -> _Question:
        asked = [one if isinstance(one, Session) else Session.from_mapping(one) for one in sessions]
        wanted = [self._marker_keys(one) for one in asked]
        return _Question(asked, [key for keys in wanted for key in keys], [*map(len, wanted)])

    def read_meta(self, max_session_age: bytes | str | None) -> None:
        """Take over the ``max_session_age`` of the app's ``meta``."""
        if max_session_age is None:
            raise GuardMisconfigured(
                f"no receiver has written {self.keys.meta}: "
                "is this the receiver's Redis, and does it serve this app?"
            )
        try:
            age = whole_number(max_session_age)
        except ValueError:
            _unreadable()
        if self._own_age is not None and self._own_age > age:
            raise GuardMisconfigured(
                f"max_session_age is {self._own_age} s here and {age} s in the receiver's "
                "settings: markers would go before the sessions that they end"
            )
        self._max_session_age = age if self._own_age is None else self._own_age
        self._meta_until = time.monotonic() + META_LIFE

    def dead(self, question: _Question, markers: Sequence[bytes | str | None]) -> list[bool]:
        """Judge each session by its share of the answer."""
        rest, now = iter(markers), self._clock()
        try:
            return [
                decide(
                    session,
                    list(islice(rest, count)),
                    max_session_age=self._max_session_age,
                    now=now,
                )
                is not Verdict.ALIVE
                for session, count in zip(question.sessions, question.counts, strict=True)
            ]
        except ValueError:
            _unreadable()

    def without_answer(self, question: _Question, error: Exception) -> list[bool]:
        """The verdicts where Redis gave none. A wrong setting is never taken for an outage."""
        if isinstance(error, _REFUSED) and not isinstance(error, _PASSING):
            raise GuardMisconfigured(f"Redis refuses the check: {type(error).__name__}") from error
        if self._on_outage == "allow":
            self._tell_outage(error)
            return [False] * len(question.sessions)
        raise RevocationUnknown(
            f"Redis did not say whether the session is dead: {type(error).__name__}"
        ) from error

    def _tell_outage(self, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._tell_from:
            self._tell_from = now + META_LIFE
            log.error("no answer of Redis (%s): sessions count as alive", type(error).__name__)


# The library's own time-outs are among the first, asyncio's among the last; what a Cluster
# client raises while no server answers is neither.
_NO_ANSWER = (RedisError, RedisClusterException, OSError)

# What passes by itself. Any other error that the server itself answers (no permission, a Cluster
# node asked by a plain URL, no such database, a key of another type) stays until somebody acts.
_PASSING = (BusyLoadingError, ClusterDownError, MasterDownError, ReadOnlyError, TryAgainError)
_REFUSED = (AuthenticationError, AuthenticationWrongNumberOfArgsError, ResponseError)


def _unreadable() -> NoReturn:
    # Somebody wrote a marker for this session; that it says nothing is no outage.
    raise RevocationUnknown("Redis holds a value that is not a number")


class SessionGuard:
    """Tells whether sessions of the relying app ``app`` were ended; for threads.

    ``redis`` is the receiver's Redis: a URL (see `connection`), or a client that the app has.
    ``timeout`` (seconds) bounds each wait of a check. Where Redis does not answer,
    ``on_outage="deny"`` raises `RevocationUnknown`, and ``"allow"`` takes sessions for alive:
    then an outage brings ended sessions back for as long as it lasts. ``max_session_age``
    (seconds) may be shorter than the receiver's, never longer. ``clock`` gives epoch seconds.
    """

    def __init__(
        self,
        redis: str | connection.SyncClient,
        *,
        app: str,
        on_outage: OnOutage = "deny",
        max_session_age: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reading = _Reading(app, on_outage, max_session_age, clock)
        # Made at the first check: a Cluster client asks its servers as soon as it is made, and
        # an app must be able to start while they are away.
        if isinstance(redis, str):
            connection.check_url(redis)
        self._given = redis
        self._timeout = timeout
        self._client: Any = None
        self._single = False

    def is_revoked(self, session: AnySession) -> bool:
        """Whether the session is dead: ended by its provider, or older than the app allows.

        Takes a `Session`, or the mapping that `remember` filled. Raises
        `SessionNotIdentified` where the mapping was not filled, `RevocationUnknown` where
        Redis does not answer.
        """
        return bool(self.which_revoked([session]))

    def which_revoked(self, sessions: Iterable[S]) -> list[S]:
        """Those of the sessions that are dead, in their order; one round trip for all."""
        asked = list(sessions)
        question = self._reading.question(asked)
        if not asked:
            return []
        try:
            dead = self._reading.dead(question, self._ask(question))
        except _NO_ANSWER as error:
            dead = self._reading.without_answer(question, error)
        return [session for session, is_dead in zip(asked, dead, strict=True) if is_dead]

    @property
    def _redis(self) -> Any:
        if self._client is None:
            given = self._given
            self._client = (
                connection.connect(given, timeout=self._timeout, max_connections=_MOST_THREADS)
                if isinstance(given, str)
                else connection.in_time(given, timeout=self._timeout)
            )
            self._single = _is_cluster(self._client)
        return self._client

    def _ask(self, question: _Question) -> Sequence[bytes | str | None]:
        client = self._redis
        single = self._single
        if not single and not self._reading.meta_is_old:
            warm: Sequence[bytes | str | None] = client.mget(question.keys)
            return warm
        pipeline = client.pipeline(transaction=False)
        *answers, meta = _fill(pipeline, question, self._reading, single=single).execute()
        self._reading.read_meta(meta)
        markers: Sequence[bytes | str | None] = answers if single else answers[0]
        return markers

    def close(self) -> None:
        """Close the guard's connections to Redis; a client of the app's stays open."""
        if self._client is not None and self._client is not self._given:
            connection.close(self._client)
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSessionGuard:
    """Tells whether sessions of the relying app ``app`` were ended; for asyncio.

    As `SessionGuard`; ``timeout`` (seconds) bounds the whole check.
    """

    def __init__(
        self,
        redis: str | connection.AsyncClient,
        *,
        app: str,
        on_outage: OnOutage = "deny",
        max_session_age: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reading = _Reading(app, on_outage, max_session_age, clock)
        self._timeout = timeout
        # The library's own limit refuses at once what exceeds it, in place of waiting.
        self._turns = asyncio.Semaphore(_MOST_CONNECTIONS)
        if isinstance(redis, str):
            connection.check_url(redis)
        self._owned = isinstance(redis, str)
        self._redis: Any = (
            connection.connect_async(redis, timeout=timeout) if isinstance(redis, str) else redis
        )
        self._single = _is_cluster(self._redis)

    async def is_revoked(self, session: AnySession) -> bool:
        """Whether the session is dead; see `SessionGuard.is_revoked`."""
        return bool(await self.which_revoked([session]))

    async def which_revoked(self, sessions: Iterable[S]) -> list[S]:
        """Those of the sessions that are dead; see `SessionGuard.which_revoked`."""
        asked = list(sessions)
        question = self._reading.question(asked)
        if not asked:
            return []
        try:
            async with asyncio.timeout(self._timeout), self._turns:
                markers = await self._ask(question)
            dead = self._reading.dead(question, markers)
        except _NO_ANSWER as error:
            dead = self._reading.without_answer(question, error)
        return [session for session, is_dead in zip(asked, dead, strict=True) if is_dead]

    async def _ask(self, question: _Question) -> Sequence[bytes | str | None]:
        single = self._single
        if not single and not self._reading.meta_is_old:
            warm: Sequence[bytes | str | None] = await self._redis.mget(question.keys)
            return warm
        pipeline = self._redis.pipeline(transaction=False)
        *answers, meta = await _fill(pipeline, question, self._reading, single=single).execute()
        self._reading.read_meta(meta)
        markers: Sequence[bytes | str | None] = answers if single else answers[0]
        return markers

    async def aclose(self) -> None:
        """Close the guard's connections to Redis; a client of the app's stays open."""
        if self._owned:
            await connection.aclose(self._redis)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _is_cluster(client: object) -> bool:
    """A Cluster that is moving the slot refuses ``MGET``: there, each marker by itself."""
    return isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster)


def _fill(pipeline: Any, question: _Question, reading: _Reading, *, single: bool) -> Any:
    """Markers and the app's age in one round trip; ``single``: each marker by itself."""
    if single:
        for key in question.keys:
            pipeline.get(key)
    else:
        pipeline.mget(question.keys)
    return pipeline.hget(reading.keys.meta, "max_session_age")
