"""What one process needs to tell what happens, put together and kept running."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from app.background import background
from app.config.model import Settings
from app.log import new_log
from app.store.errors import EXCHANGE_FAULTS, RedisAway, fault_of
from app.store.topology import REDIS_SECONDS
from app.telemetry.attempt_log import Reporter
from app.telemetry.counters import Counters
from app.telemetry.hashes import KeyedHash, configured, shared_key
from app.telemetry.line_limit import LineLimit
from app.telemetry.log import repetitions
from app.telemetry.refusals import Refusals
from backchannel_logout.redis.connection import AsyncClient

log = new_log(__name__)

# A Redis that was emptied gets the key back within this.
_LOOK_SECONDS = 60.0

_TRY_SECONDS = 1.0


class Reporting:
    """`teller` is for stories, `refusals` counts what became of them."""

    def __init__(
        self, settings: Settings, client: AsyncClient, tally: Counters | None = None
    ) -> None:
        counted: dict[str, Any] = (
            {"on_kept": tally.refusals_kept, "on_left_out": tally.refusals_left_out}
            if tally is not None
            else {}
        )
        self.refusals = Refusals(settings, client, **counted)
        self.line_limit = LineLimit()
        if tally is not None:
            self.line_limit.on_left_out = tally.log_limited
        self.teller = Reporter(
            hashed=configured(settings),
            subjects=settings.log_subjects,
            refusals=self.refusals,
            tally=tally,
            line_limit=self.line_limit,
        )
        self._client = client

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write refusals, tell of repetitions, and agree with the others on the hashes' key."""
        work = [self.refusals.keep_writing, repetitions.keep_telling, self.line_limit.keep_telling]
        if self.teller.hashed is None:
            work.append(self._keep_key)
        async with background(work):
            yield

    async def _keep_key(self) -> None:
        own: bytes | None = None
        while True:
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    key = await shared_key(self._client, own)
            except EXCHANGE_FAULTS as error:
                fault = fault_of(error)
                log.warning("hash_key", outcome="failed", error=str(fault))
                soon = own is None and isinstance(fault, RedisAway)
                await asyncio.sleep(_TRY_SECONDS if soon else _LOOK_SECONDS)
                continue
            if key != own:
                own, self.teller.hashed = key, KeyedHash(key)
            await asyncio.sleep(_LOOK_SECONDS)
