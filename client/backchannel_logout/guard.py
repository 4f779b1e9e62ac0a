"""Asks Redis whether sessions are dead: one round trip for each check.

`SessionGuard` is for threads, `AsyncSessionGuard` for asyncio; both share `Reading`, which
knows what to ask and what an answer means. Neither keeps an answer: what Redis says counts.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import redis
import redis.asyncio

from . import connection
from .question import NO_ANSWER, AnySession, OnOutage, Question, Reading, S

# A user waits for each check. Redis on the same network answers within a millisecond, so
# half a second is a failure, not a delay.
DEFAULT_TIMEOUT = 0.5

# A burst of checks shares this many connections and waits its turn: each takes well under a
# millisecond, and a connection for each would cost more than the wait.
_MOST_CONNECTIONS = 32

# Threads wait for nobody; each that asks at once has a connection of its own.
_MOST_THREADS = 10_000


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
        self._reading = Reading(app, on_outage, max_session_age, clock)
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
        except NO_ANSWER as error:
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

    def _ask(self, question: Question) -> Sequence[bytes | str | None]:
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
        self._reading = Reading(app, on_outage, max_session_age, clock)
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
        except NO_ANSWER as error:
            dead = self._reading.without_answer(question, error)
        return [session for session, is_dead in zip(asked, dead, strict=True) if is_dead]

    async def _ask(self, question: Question) -> Sequence[bytes | str | None]:
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


def _fill(pipeline: Any, question: Question, reading: Reading, *, single: bool) -> Any:
    """Markers and the app's age in one round trip; ``single``: each marker by itself."""
    if single:
        for key in question.keys:
            pipeline.get(key)
    else:
        pipeline.mget(question.keys)
    return pipeline.hget(reading.keys.meta, "max_session_age")
