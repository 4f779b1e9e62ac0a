"""Tells whether sessions are dead: queries Redis in one round trip, or knows it from the tail.

`SessionGuard` is for threads, `AsyncSessionGuard` for asyncio. Both share `RevocationChecker`,
which makes the queries and judges the replies, and `NearCache`, which decides what may be kept.
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
from backchannel_logout.contract.decision import Value
from backchannel_logout.near.cache import cache_size, uncached
from backchannel_logout.near.task import TaskNearCache
from backchannel_logout.near.thread import ThreadedNearCache
from backchannel_logout.redis import connection

# A user waits for each check. Redis on the same network answers within a millisecond, so half a
# second is a failure, not a delay.
DEFAULT_TIMEOUT = 0.5

DEFAULT_MAX_STALE = 5.0
"""Seconds: a failover of Redis or a short network fault of this length goes unnoticed."""

# A burst of checks shares this many connections and waits its turn: each takes well under a
# millisecond, and a connection for each would cost more than the wait.
_MAX_CONNECTIONS = 32

# Threads do not wait for each other: each concurrent check has its own connection.
_MAX_THREADS = 10_000


class SessionGuard:
    """Tells whether sessions of the relying app ``app`` were ended; for threads.

    ``redis`` is the receiver's Redis: a URL (see `connection`), or the app's own client.
    ``timeout`` (seconds) bounds each wait of a check. When Redis does not answer,
    ``on_outage="deny"`` raises `RevocationUnknown`; with ``"allow"`` sessions count as alive, so an
    outage brings ended sessions back for as long as it lasts. ``max_session_age`` (seconds) may be
    shorter than the receiver's, never longer. ``clock`` returns epoch seconds.

    ``near_cache``: for how many sessions the answer "alive" is kept in the process (True: 50,000),
    so that most checks need no query. A thread reads the app's stream and drops the sessions that a
    logout ends, within a second. It starts at the first check, in each process, and needs a URL.
    The cache serves only while that thread was in contact with Redis within ``max_stale`` seconds:
    no session that was ended before that counts as alive. Without threads (gevent, uWSGI without
    ``enable-threads``) every check queries Redis.
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
        self._checker = RevocationChecker(app, on_outage, max_session_age, clock)
        if isinstance(redis, str):
            connection.check_url(redis)
        self._given = redis
        self._timeout = timeout
        # Made at the first check: a Cluster client connects at once, and an app must be able to
        # start without Redis.
        self._client: Any = None
        self._single = False
        self._near: ThreadedNearCache | None = None
        if max_sessions := cache_size(near_cache, max_stale):
            if not isinstance(redis, str):
                raise ValueError("near_cache needs a Redis URL in place of a client")
            self._near = ThreadedNearCache(
                redis,
                self._checker,
                max_sessions,
                max_stale=max_stale,
                timeout=timeout,
                renew=self._renew,
            )

    def is_revoked(self, session: AnySession) -> bool:
        """Whether the session is dead: ended by its provider, or older than the app allows.

        Takes a `Session`, or the mapping that `remember` filled. Raises `SessionNotIdentified` for
        a mapping that was not filled, `RevocationUnknown` when Redis does not answer.
        """
        if self._near is not None and self._near.cache.alive(session):
            return False
        return bool(self.which_revoked([session]))

    def which_revoked(self, sessions: Iterable[S], *, fresh: bool = False) -> list[S]:
        """The dead ones of these sessions, in their order; one round trip for all.

        ``fresh``: query Redis for each of them, whatever the near cache holds.
        """
        unknown = uncached(sessions, None if self._near is None or fresh else self._near.cache)
        query = self._checker.query(unknown)
        if not unknown:
            return []
        if self._near is not None:
            self._near.start()
        try:
            # Before the query is sent, and before its connection is chosen.
            fence = 0 if self._near is None else self._near.cache.fence()
            try:
                markers = self._run(query)
            except exceptions.ConnectionError:
                if not self._single:
                    raise
                markers = self._run(query)
            dead = self._checker.dead(query, markers)
            if self._near is not None:
                self._checker.keep(query, dead, self._near.cache, fence)
        except NO_ANSWER as error:
            dead = self._checker.without_answer(query, error)
        return [session for session, is_dead in zip(unknown, dead, strict=True) if is_dead]

    @property
    def _redis(self) -> Any:
        if self._client is None:
            given = self._given
            self._client = (
                connection.connect(given, timeout=self._timeout, max_connections=_MAX_THREADS)
                if isinstance(given, str)
                else connection.with_timeout(given, timeout=self._timeout)
            )
            self._single = _is_cluster(self._client)
        return self._client

    def _renew(self) -> None:
        if self._client is not None:
            connection.renew(self._client)

    def _run(self, query: MarkerQuery) -> Sequence[Value]:
        client = self._redis
        single, report = self._single, self._near is None
        pipeline = client.pipeline(transaction=False)
        for command in self._checker.commands(query, single=single, report=report):
            pipeline.execute_command(*command)
        replies = pipeline.execute(raise_on_error=False)
        return self._checker.markers(replies, query, single=single)

    def close(self) -> None:
        """Close the guard's connections to Redis; the app's own client stays open."""
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

    Options as of `SessionGuard`, with two differences: ``timeout`` (seconds) bounds the whole
    check, and ``near_cache`` is on: a task of the event loop reads the app's stream from the first
    check on. 0 turns it off.
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
        self._checker = RevocationChecker(app, on_outage, max_session_age, clock)
        self._timeout = timeout
        # The pool's own limit raises at once when it is exceeded.
        self._turns = asyncio.Semaphore(_MAX_CONNECTIONS)
        if isinstance(redis, str):
            connection.check_url(redis)
        self._near: TaskNearCache | None = None
        if max_sessions := cache_size(near_cache, max_stale):
            self._near = TaskNearCache(
                self._checker, max_sessions, max_stale=max_stale, timeout=timeout
            )
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
        """The dead ones of these sessions; see `SessionGuard.which_revoked`."""
        unknown = uncached(sessions, None if self._near is None or fresh else self._near.cache)
        query = self._checker.query(unknown)
        if not unknown:
            return []
        self._use_this_loop()
        if self._near is not None:
            self._near.start(self._redis)
        try:
            async with asyncio.timeout(self._timeout), self._turns:
                # Before the query is sent, and before its connection is chosen.
                fence = 0 if self._near is None else self._near.cache.fence()
                try:
                    markers = await self._run(query)
                except exceptions.ConnectionError:
                    if not self._single:
                        raise
                    markers = await self._run(query)
            dead = self._checker.dead(query, markers)
            if self._near is not None:
                self._checker.keep(query, dead, self._near.cache, fence)
        except NO_ANSWER as error:
            dead = self._checker.without_answer(query, error)
        return [session for session, is_dead in zip(unknown, dead, strict=True) if is_dead]

    @property
    def next_news(self) -> asyncio.Event:
        """Set when a logout arrives that may concern any session; then call `which_revoked`.

        Take it before calling `which_revoked`. Without a near cache it is never set.
        """
        self._use_this_loop()
        return asyncio.Event() if self._near is None else self._near.next_news

    async def _run(self, query: MarkerQuery) -> Sequence[Value]:
        single, report = self._single, self._near is None
        pipeline = self._redis.pipeline(transaction=False)
        for command in self._checker.commands(query, single=single, report=report):
            pipeline.execute_command(*command)
        replies = await pipeline.execute(raise_on_error=False)
        return self._checker.markers(replies, query, single=single)

    def _connect(self) -> connection.AsyncClient:
        if isinstance(self._given, str):
            return connection.connect_async(self._given, timeout=self._timeout)
        if self._near is None:
            return self._given
        return connection.copy_async(self._given, timeout=self._timeout)

    def _use_this_loop(self) -> None:
        """Connections belong to an event loop: in another one, everything is made anew."""
        loop, before = asyncio.get_running_loop(), self._loop
        if loop is before:
            return
        self._loop = loop
        if before is not None:
            self._redis = self._connect()
            self._turns = asyncio.Semaphore(_MAX_CONNECTIONS)
            if self._near is not None:
                self._near.abandon()

    async def aclose(self) -> None:
        """Close the guard's connections to Redis; the app's own client stays open."""
        self._use_this_loop()
        if self._near is not None:
            await self._near.stop()
        if self._redis is not self._given:
            await connection.aclose(self._redis)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _is_cluster(client: object) -> bool:
    """A Cluster that moves a slot refuses ``MGET``, so each marker is queried alone.

    And redis-py before 8 breaks off commands in transit when it looks up the nodes, as the tail
    makes it do, so a query is sent once more.
    """
    return isinstance(client, redis.RedisCluster | redis.asyncio.RedisCluster)
