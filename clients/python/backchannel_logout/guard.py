"""Tells whether sessions are dead: asks Redis, in one round trip, or knows it from the tail.

`SessionGuard` is for threads, `AsyncSessionGuard` for asyncio; both share `RevocationChecker`,
which knows what to ask and what an answer means, and `NearCache`, which knows what may be kept.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import redis
import redis.asyncio
from redis import exceptions

from backchannel_logout.checker import (
    NO_ANSWER,
    AnySession,
    MarkerQuery,
    OnOutage,
    RevocationChecker,
    S,
)
from backchannel_logout.near.cache import NearCache
from backchannel_logout.near.task import TaskNearCache
from backchannel_logout.near.thread import ThreadedNearCache
from backchannel_logout.redis import connection

# A user waits for each check. Redis on the same network answers within a millisecond, so
# half a second is a failure, not a delay.
DEFAULT_TIMEOUT = 0.5

DEFAULT_MAX_STALE = 5.0
"""Seconds: for so long a failover of Redis, or a short network fault, is not felt."""

DEFAULT_NEAR_CACHE = 50_000
"""Sessions; some 40 MB when all of them are there."""

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

    ``near_cache``: for how many sessions the answer "alive" is kept in the process (True: for
    50,000), so that most checks ask nobody. A thread reads the app's stream and drops what a
    logout ends, within a second; it starts at the first check, in each process, and needs a URL.
    What is kept serves only while that thread was in contact with Redis within ``max_stale``
    seconds: no session that was ended before then is taken for alive. Without threads (gevent,
    uWSGI without ``enable-threads``) every check asks Redis.
    """

    def __init__(
        self,
        redis: str | connection.SyncClient,
        *,
        app: str,
        on_outage: OnOutage = "deny",
        max_session_age: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        near_cache: bool | int = False,
        max_stale: float = DEFAULT_MAX_STALE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reading = RevocationChecker(app, on_outage, max_session_age, clock)
        # Made at the first check: a Cluster client asks its servers as soon as it is made, and
        # an app must be able to start while they are away.
        if isinstance(redis, str):
            connection.check_url(redis)
        self._given = redis
        self._timeout = timeout
        self._client: Any = None
        self._single = False
        self._near: ThreadedNearCache | None = None
        if most := sessions_kept(near_cache, max_stale):
            if not isinstance(redis, str):
                raise ValueError("near_cache needs a Redis URL in place of a client")
            self._near = ThreadedNearCache(
                redis, self._reading, most, max_stale=max_stale, timeout=timeout, renew=self._renew
            )

    def is_revoked(self, session: AnySession) -> bool:
        """Whether the session is dead: ended by its provider, or older than the app allows.

        Takes a `Session`, or the mapping that `remember` filled. Raises
        `SessionNotIdentified` where the mapping was not filled, `RevocationUnknown` where
        Redis does not answer.
        """
        if self._near is not None and self._near.cache.alive(session):
            return False
        return bool(self.which_revoked([session]))

    def which_revoked(self, sessions: Iterable[S], *, fresh: bool = False) -> list[S]:
        """Those of the sessions that are dead, in their order; one round trip for all.

        ``fresh``: ask Redis for each of them, whatever the near cache says.
        """
        asked = uncached(sessions, None if self._near is None or fresh else self._near.cache)
        question = self._reading.question(asked)
        if not asked:
            return []
        if self._near is not None:
            self._near.start()
        try:
            # Before the question is sent; and before its connection is chosen.
            fence = 0 if self._near is None else self._near.cache.fence()
            try:
                markers = self._ask(question)
            except exceptions.ConnectionError:
                if not self._single:
                    raise
                markers = self._ask(question)
            dead = self._reading.dead(question, markers)
            if self._near is not None:
                self._reading.keep(question, dead, self._near.cache, fence)
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

    def _renew(self) -> None:
        if self._client is not None:
            connection.renew(self._client)

    def _ask(self, question: MarkerQuery) -> Sequence[bytes | str | None]:
        client = self._redis
        single = self._single
        pipeline = client.pipeline(transaction=False)
        for command in self._reading.commands(question, single=single, note=self._near is None):
            pipeline.execute_command(*command)
        answers = pipeline.execute(raise_on_error=False)
        return self._reading.markers(answers, question, single=single)

    def close(self) -> None:
        """Close the guard's connections to Redis; a client of the app's stays open."""
        if self._near is not None:
            self._near.stop()
        if self._client is not None and self._client is not self._given:
            connection.close(self._client)
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSessionGuard:
    """Tells whether sessions of the relying app ``app`` were ended; for asyncio.

    As `SessionGuard`; ``timeout`` (seconds) bounds the whole check. ``near_cache`` is on: a task
    of the event loop reads the app's stream, from the first check on. 0 switches it off.
    """

    def __init__(
        self,
        redis: str | connection.AsyncClient,
        *,
        app: str,
        on_outage: OnOutage = "deny",
        max_session_age: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        near_cache: bool | int = True,
        max_stale: float = DEFAULT_MAX_STALE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reading = RevocationChecker(app, on_outage, max_session_age, clock)
        self._timeout = timeout
        # The library's own limit refuses at once what exceeds it, in place of waiting.
        self._turns = asyncio.Semaphore(_MOST_CONNECTIONS)
        if isinstance(redis, str):
            connection.check_url(redis)
        self._near: TaskNearCache | None = None
        if most := sessions_kept(near_cache, max_stale):
            self._near = TaskNearCache(self._reading, most, max_stale=max_stale, timeout=timeout)
        self._given = redis
        self._redis: Any = self._connect()
        self._single = _is_cluster(self._redis)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def is_revoked(self, session: AnySession) -> bool:
        """Whether the session is dead; see `SessionGuard.is_revoked`."""
        if self._near is not None and self._near.cache.alive(session):
            return False
        return bool(await self.which_revoked([session]))

    async def which_revoked(self, sessions: Iterable[S], *, fresh: bool = False) -> list[S]:
        """Those of the sessions that are dead; see `SessionGuard.which_revoked`."""
        asked = uncached(sessions, None if self._near is None or fresh else self._near.cache)
        question = self._reading.question(asked)
        if not asked:
            return []
        self._be_in_this_loop()
        if self._near is not None:
            self._near.start(self._redis)
        try:
            async with asyncio.timeout(self._timeout), self._turns:
                # Before the question is sent; and before its connection is chosen.
                fence = 0 if self._near is None else self._near.cache.fence()
                try:
                    markers = await self._ask(question)
                except exceptions.ConnectionError:
                    if not self._single:
                        raise
                    markers = await self._ask(question)
            dead = self._reading.dead(question, markers)
            if self._near is not None:
                self._reading.keep(question, dead, self._near.cache, fence)
        except NO_ANSWER as error:
            dead = self._reading.without_answer(question, error)
        return [session for session, is_dead in zip(asked, dead, strict=True) if is_dead]

    @property
    def next_news(self) -> asyncio.Event:
        """Is set when a logout has come that may concern anybody: `which_revoked` tells whom.

        To be taken before `which_revoked` is asked. Without a near cache it is never set.
        """
        self._be_in_this_loop()
        return asyncio.Event() if self._near is None else self._near.next_news

    async def _ask(self, question: MarkerQuery) -> Sequence[bytes | str | None]:
        single = self._single
        pipeline = self._redis.pipeline(transaction=False)
        for command in self._reading.commands(question, single=single, note=self._near is None):
            pipeline.execute_command(*command)
        answers = await pipeline.execute(raise_on_error=False)
        return self._reading.markers(answers, question, single=single)

    def _connect(self) -> connection.AsyncClient:
        if isinstance(self._given, str):
            return connection.connect_async(self._given, timeout=self._timeout)
        if self._near is None:
            return self._given
        return connection.like_async(self._given, timeout=self._timeout)

    def _be_in_this_loop(self) -> None:
        """Connections belong to an event loop; in another one, all is made anew."""
        loop, before = asyncio.get_running_loop(), self._loop
        if loop is before:
            return
        self._loop = loop
        if before is not None:
            self._redis = self._connect()
            self._turns = asyncio.Semaphore(_MOST_CONNECTIONS)
            if self._near is not None:
                self._near.leave()

    async def aclose(self) -> None:
        """Close the guard's connections to Redis; a client of the app's stays open."""
        self._be_in_this_loop()
        if self._near is not None:
            await self._near.stop()
        if self._redis is not self._given:
            await connection.aclose(self._redis)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def sessions_kept(near_cache: bool | int, max_stale: float) -> int:
    """For how many sessions the answer is kept. Raises ``ValueError``."""
    if near_cache < 0 or not max_stale > 0:
        raise ValueError("near_cache is a number of sessions, max_stale a number of seconds")
    return DEFAULT_NEAR_CACHE if near_cache is True else int(near_cache)


def uncached(sessions: Iterable[S], cache: NearCache | None) -> list[S]:
    """Those of the sessions that have to be asked for."""
    if cache is None:
        return list(sessions)
    return [session for session in sessions if not cache.alive(session)]


def _is_cluster(client: object) -> bool:
    """A Cluster that is moving the slot refuses ``MGET``: there, each marker by itself.

    And a client of redis-py before 8 breaks off what is under way when it looks up the nodes, as
    the tail has it do: there, a question is sent once more.
    """
    return isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster)
