"""Builds what the process reports with, and keeps it running."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from app.background import background
from app.config.model import Settings
from app.log import new_log
from app.store.errors import EXCHANGE_FAULTS, RedisAway, fault_of
from app.store.topology import REDIS_SECONDS
from app.telemetry.attempt_log import Reporter
from app.telemetry.hashes import KeyedHash, configured, shared_key
from app.telemetry.logs.line_limit import LineLimit
from app.telemetry.logs.setup import repetitions
from app.telemetry.metrics.counters import Counters
from app.telemetry.refusals import Refusals
from backchannel_logout.redis.connection import AsyncClient

log = new_log(__name__)

# How soon an emptied Redis gets the key back.
_CHECK_SECONDS = 60.0

# While no key is known and Redis is unreachable.
_RETRY_SECONDS = 1.0


class Reporting:
    """`reporter` is for the records of attempts."""

    def __init__(self, settings: Settings, client: AsyncClient, counters: Counters) -> None:
        self.refusals = Refusals(
            settings,
            client,
            on_kept=counters.refusals_kept,
            on_left_out=counters.refusals_left_out,
        )
        self.line_limit = LineLimit(counters.log_limited)
        self.reporter = Reporter(
            keyed_hash=configured(settings),
            subjects=settings.log_subjects,
            refusals=self.refusals,
            counters=counters,
            line_limit=self.line_limit,
        )
        self._client = client

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write refusals, report repeated and omitted lines, and share the hashes' key."""
        tasks = [
            self.refusals.keep_writing,
            repetitions.keep_reporting,
            self.line_limit.keep_reporting,
        ]
        if self.reporter.keyed_hash is None:
            tasks.append(self._keep_key)
        async with background(tasks):
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
                await asyncio.sleep(_RETRY_SECONDS if soon else _CHECK_SECONDS)
                continue
            if key != own:
                own = key
                self.reporter.keyed_hash = KeyedHash(key)
            await asyncio.sleep(_CHECK_SECONDS)
