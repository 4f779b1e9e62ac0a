"""One interface to both kinds of guards with a near cache."""

import asyncio
import time
from typing import Any

from backchannel_logout import AsyncSessionGuard, Session, SessionGuard
from backchannel_logout.near.cache import NearCache
from tests.support.patience import PATIENCE
from tests.support.revocations import ISS, NOW

WITHIN = 30.0
"""Seconds. The contract promises one; the rest is for a busy machine."""

ALICE = Session(ISS, NOW - 10, sid="s1", sub="alice")
"""The session that the revocations of `tests.support.revocations` end by default."""
NEIGHBOUR = Session(ISS, NOW - 10, sid="s2", sub="bob")

KINDS = ["async", "sync"]


async def patiently(step: Any, *faults: type[Exception]) -> Any:
    """Repeat a step that may fail for a while, as when servers change roles."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return await step()
        except faults:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


class WarmGuard:
    """An `AsyncSessionGuard`, or a `SessionGuard` whose thread reads the stream."""

    def __init__(self, kind: str, url: Any, app: str, **options: Any) -> None:
        # The cache, too, must serve after a pause.
        patient = {"timeout": PATIENCE, "max_stale": PATIENCE}
        options = {"clock": lambda: NOW, "near_cache": True} | patient | options
        guard_type = AsyncSessionGuard if kind == "async" else SessionGuard
        self.guard: Any = guard_type(url, app=app, **options)
        self.kind = kind

    @property
    def cache(self) -> NearCache:
        cache = self.guard._near.cache
        assert isinstance(cache, NearCache)
        return cache

    async def which_revoked(self, *sessions: Session, fresh: bool = False) -> list[Session]:
        if self.kind == "async":
            answer: list[Session] = await self.guard.which_revoked(sessions, fresh=fresh)
            return answer
        return await asyncio.to_thread(self.guard.which_revoked, sessions, fresh=fresh)

    async def is_revoked(self, session: Session) -> bool:
        if self.kind == "async":
            return bool(await self.guard.is_revoked(session))
        return bool(await asyncio.to_thread(self.guard.is_revoked, session))

    def is_warm(self, session: Session) -> bool:
        """Whether a check is answered from memory."""
        return self.cache.alive(session)

    async def warm(self, *sessions: Session) -> None:
        """Check until every session is in the cache."""
        deadline = time.monotonic() + WITHIN
        while not all(self.is_warm(session) for session in sessions):
            assert time.monotonic() < deadline, "the guard does not become warm"
            assert await self.which_revoked(*sessions) == []
            await asyncio.sleep(0.01)

    async def sees_the_end_of(self, session: Session) -> None:
        deadline = time.monotonic() + WITHIN
        while not await self.is_revoked(session):
            assert time.monotonic() < deadline, "an ended session counts as alive"
            await asyncio.sleep(0.01)

    async def aclose(self) -> None:
        if self.kind == "async":
            await self.guard.aclose()
        else:
            await asyncio.to_thread(self.guard.close)
