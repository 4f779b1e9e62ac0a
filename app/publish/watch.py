"""Looks at Redis once a second: who is primary, is it another or an older one, does it write.

A primary that changed may lack what the last one has acknowledged (replication is
asynchronous, a snapshot is older, an empty disk has nothing): whoever is told writes it again.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from .redis_facts import facts_of
from .redis_fault import EXCHANGE_FAULTS, LevelNotReached, RedisFault, fault_of
from .redis_link import REDIS_SECONDS, RedisLink
from .store import Store

log = logging.getLogger(__name__)

# A failover or a restart is seen within this and the time of one exchange.
PULSE_SECONDS = 1.0


class Watch:
    """``on_change`` is called when what was acknowledged may be lost."""

    def __init__(self, store: Store, link: RedisLink, on_change: Callable[[], None]) -> None:
        self._store = store
        self._link = link
        self._on_change = on_change
        self._servers: dict[str, str] | None = None
        """The run id of each primary, by its name."""
        self._told: set[str] = set()
        self.last_error: str | None = "not asked yet"
        """Why Redis took no write when it was asked last; None when it did."""

    @property
    def down(self) -> bool:
        """Whether a write now would be in vain, as far as is known."""
        return self._servers is not None and self.last_error is not None

    def failed(self, fault: RedisFault) -> None:
        """A write has failed; the next pulse says whether it goes on."""
        if not isinstance(fault, LevelNotReached):
            self._say(str(fault))

    async def keep_looking(self) -> None:
        """Look every second. Never returns."""
        while True:
            await self.look()
            await asyncio.sleep(PULSE_SECONDS)

    async def look(self) -> None:
        """One look. Never raises; `last_error` tells."""
        was_down = self.last_error is not None
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                await self._link.look_up()
                infos = await self._infos()
            missing = await self._store.write_meta()
        except (*EXCHANGE_FAULTS, RedisFault) as error:
            self._servers = self._servers or {}
            self._say(str(fault_of(error)))
            return
        except Exception:
            log.exception("redis outcome=failed error=internal")
            self._say("internal")
            return
        self._say(None)
        self._tell_facts(infos)
        servers = {name: str(info.get("run_id", "")) for name, info in infos.items()}
        changed = servers != self._servers
        self._servers = servers
        # After an outage too, where the run id can not be read; and where nobody restarted
        # but everything is gone.
        if changed or was_down or missing:
            self._on_change()

    async def _infos(self) -> dict[str, dict[str, Any]]:
        infos: dict[str, dict[str, Any]] = {}
        for name, server in (await self._link.primaries()).items():
            try:
                infos[name] = await server.info()
            except EXCHANGE_FAULTS as error:
                if str(fault_of(error)) != "NOPERM":
                    raise
                infos[name] = {}
        return infos

    def _tell_facts(self, infos: Mapping[str, Mapping[str, Any]]) -> None:
        """Warn once of each way in which these servers can lose or refuse a marker."""
        faults = {
            f"{name} {fact.what}: {fact.detail}".strip()
            for name, info in infos.items()
            for fact in facts_of(info)
            if fact.fault
        }
        for fault in sorted(faults - self._told):
            log.warning("redis %s", fault)
        self._told = faults

    def _say(self, error: str | None) -> None:
        if error != self.last_error:
            level = logging.INFO if error is None else logging.WARNING
            log.log(level, "redis writable=%s error=%s", error is None, error or "-")
        self.last_error = error
