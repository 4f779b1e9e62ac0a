"""Which server is the primary when Sentinels disagree."""

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import redis.asyncio.sentinel
import redis.sentinel

# Sentinels on one network answer within a millisecond or two. A dead one must not cost the whole
# time that a connection may take.
_OTHER_SENTINELS_SECONDS = 0.1

Query = Future[Any] | asyncio.Future[Any]


class _Replies:
    """What the Sentinels have replied about one service so far."""

    def __init__(self, sentinel: Any, service: str) -> None:
        self._sentinel = sentinel
        self._service = service
        self._states: list[Mapping[str, Any]] = []
        self._faults: list[str] = []

    @property
    def timeout(self) -> float | None:
        """How long to wait for another reply, in seconds."""
        return _OTHER_SENTINELS_SECONDS if self._states else None

    def add(self, done: Iterable[Query]) -> None:
        for query in done:
            if (error := query.exception()) is not None:
                self._faults.append(type(error).__name__)
                continue
            state = query.result().get(self._service)
            if state and self._sentinel.check_master_state(state, self._service):
                self._states.append(state)

    def newest(self) -> tuple[str, int]:
        """The primary of the newest configuration."""
        if not self._states:
            raise redis.sentinel.MasterNotFoundError(
                f"no Sentinel names a primary that is up ({', '.join(self._faults) or 'no reply'})"
            )
        newest = max(self._states, key=lambda state: int(state.get("config-epoch", 0)))
        return newest["ip"], newest["port"]


class NewestPrimary(redis.sentinel.Sentinel):
    """Asks every Sentinel and uses the newest configuration.

    After a network split, the Sentinel on the wrong side still names the old primary; what is
    written there is lost when the split heals. Each failover has a higher epoch.
    """

    def discover_master(self, service_name: str) -> tuple[str, int]:
        replies = _Replies(self, service_name)
        threads = ThreadPoolExecutor(len(self.sentinels))
        try:
            pending = {threads.submit(sentinel.sentinel_masters) for sentinel in self.sentinels}
            while pending:
                done, pending = wait(pending, timeout=replies.timeout, return_when=FIRST_COMPLETED)
                if not done:
                    break
                replies.add(done)
        finally:
            threads.shutdown(wait=False)  # each query has a deadline of its own
        return replies.newest()


class NewestPrimaryAsync(redis.asyncio.sentinel.Sentinel):
    """`NewestPrimary`, for asyncio."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        replies = _Replies(self, service_name)
        queries = {
            asyncio.ensure_future(sentinel.sentinel_masters()) for sentinel in self.sentinels
        }
        pending = set(queries)
        try:
            while pending:
                done, pending = await asyncio.wait(
                    pending, timeout=replies.timeout, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                replies.add(done)
        finally:
            for query in queries:
                query.cancel()
            await asyncio.gather(*queries, return_exceptions=True)
        return replies.newest()
