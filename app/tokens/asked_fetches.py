"""Fetches an issuer's keys when an operator asks, in every receiver on this Redis.

Each receiver has its own keys. The operator's entry in the audit is the request: every receiver
reads new entries once a second, for which its Redis user needs no further right. A receiver that
is cut off from Redis reads them once it is back; one that starts later fetches anyway.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from app.log import new_log
from app.store.errors import EXCHANGE_FAULTS
from app.store.operator_streams import AUDIT
from app.tokens.provider_keys import KeyState, ProviderKeys
from backchannel_logout.redis.connection import AsyncClient

log = new_log(__name__)

ACT = "keys.fetch"
"""The act of an audit entry that asks for a fetch; its ``iss`` is the issuer."""

# How soon every receiver begins the fetch.
READ_SECONDS = 1.0

_MAX_ENTRIES = 100


class AskedFetches:
    """``keys`` holds each issuer's keys by its name; ``client`` reads the audit."""

    def __init__(self, keys: Mapping[str, ProviderKeys], client: AsyncClient) -> None:
        self._keys = keys
        self._client = client
        self._others: list[Mapping[str, ProviderKeys]] = []
        self._last: str | None = None
        """The id of the newest entry that was read."""
        self._own: set[str] = set()
        self._tasks: set[asyncio.Task[KeyState]] = set()

    async def fetch(self, issuer: str, request_id: str) -> KeyState:
        """Fetch here. ``request_id``: that of the audit entry, which is then read without effect
        here. Cached keys stay where the fetch fails."""
        self._own.add(request_id)
        return await self._fetch(issuer)

    def add(self, keys: Mapping[str, ProviderKeys]) -> None:
        """Fetch for these caches, too: the users' listener and the console have their own."""
        self._others.append(keys)

    async def _fetch(self, issuer: str) -> KeyState:
        others = [keys[issuer] for keys in self._others if issuer in keys]
        state, *_ = await asyncio.gather(
            *(keys.fetch_now() for keys in (self._keys[issuer], *others))
        )
        return state

    async def keep_reading(self) -> None:
        """Fetch for each new entry of the audit. Never returns."""
        while True:
            # The monitor reports that Redis is away.
            with contextlib.suppress(*EXCHANGE_FAULTS):
                await self._read()
            await asyncio.sleep(READ_SECONDS)

    async def _read(self) -> None:
        entries: Any
        if self._last is None:
            entries = await self._client.xrevrange(AUDIT, count=1)
            self._last = _text(entries[0][0]) if entries else "0-0"
        more = True
        while more:
            entries = await self._client.xrange(AUDIT, min=f"({self._last}", count=_MAX_ENTRIES)
            more = len(entries) == _MAX_ENTRIES
            for entry_id, fields in entries:
                self._last = _text(entry_id)
                self._obey({_text(name): _text(value) for name, value in fields.items()})

    def _obey(self, entry: Mapping[str, str]) -> None:
        if entry.get("act") != ACT:
            return
        request_id, issuer = entry.get("request_id", ""), entry.get("iss", "")
        if request_id in self._own:
            self._own.discard(request_id)
        elif issuer in self._keys:
            log.info("keys", outcome="asked", issuer=issuer)
            task = asyncio.create_task(self._fetch(issuer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")
