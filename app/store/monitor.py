"""Checks Redis once a second: which server is primary, whether it changed, whether it writes.

A new primary may lack what the previous one acknowledged: replication is asynchronous, a snapshot
is older, an empty disk has nothing. `Recovery` then writes it again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from app.log import new_log
from app.revocation import Revocation
from app.store.batching import FLUSHERS, FLUSHERS_THAT_WAIT, SLOW_SECONDS
from app.store.errors import (
    EXCHANGE_FAULTS,
    AppForbidden,
    LevelNotReached,
    RedisAway,
    RedisFault,
    RevocationRefused,
    fault_of,
)
from app.store.generation import GENERATION_KEY, Generation
from app.store.server_info import facts_of
from app.store.store import SCRIPT, Store
from app.store.topology import REDIS_SECONDS, RedisTopology

log = new_log(__name__)

# A failover or a restart is noticed within this time, plus one exchange.
PULSE_SECONDS = 1.0

# Several round trips on a slow link.
_PREPARE_SECONDS = 3 * REDIS_SECONDS


class RedisMonitor:
    """Calls ``on_change`` when acknowledged writes may be lost.

    The fault of a single app is in `app_faults`; the others are written as usual.
    ``on_emptied`` is called when a server came back without what was written to it.
    ``holds`` returns whether an app's markers are still to be restored: see `AppMetas.write`.
    ``last`` returns the latest acknowledged revocation: if its marker is gone, others may be gone
    too. Of several processes, only the first one finds ``meta`` missing after a flush.
    """

    def __init__(
        self,
        store: Store,
        topology: RedisTopology,
        on_change: Callable[[], None],
        last: Callable[[], Revocation | None] = lambda: None,
        holds: Callable[[str, bool], bool] = lambda _, __: False,
        generation: Generation | None = None,
        on_emptied: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._generation = generation or Generation()
        self._on_emptied = on_emptied
        self.app_faults = store.app_faults
        self._topology = topology
        self._on_change = on_change
        self._last = last
        self._holds = holds
        self._look_now = asyncio.Event()
        self._run_ids: dict[str, str] = {}
        self._known: dict[str, str] = {}
        """An app of each server."""
        self._faults: dict[str, str] = {"": "not asked yet"}
        self.level_error: str | None = None
        """Why the last write has not reached its level of durability; None if it has."""
        self._level_faults: dict[str, str] = {}
        self.looked = False
        """Whether there has been a check at all, with any result."""
        self._warned: set[tuple[str, str, str]] = set()
        self.infos: dict[str, Mapping[str, Any]] = {}
        """The latest ``INFO`` of each server that answers, by its place."""

    @property
    def last_error(self) -> str | None:
        """Why a server took no write at the last check; None if all of them did."""
        return next(iter(self._faults.values()), None)

    @property
    def app_errors(self) -> Mapping[str, str]:
        """Apps that take no writes although their server does: one word by the app's name."""
        return {} if self._faults else self.app_faults.words

    @property
    def faults(self) -> Mapping[str, str | None]:
        """For each server: why it took no write at the last check; None if it did."""
        return dict.fromkeys(self.infos) | self._faults

    def down(self, app: str) -> bool:
        """Whether a write for the app would fail now, as far as is known."""
        return self.looked and bool(self._faults) and self._topology.place(app) in self._faults

    def failed(self, app: str, fault: RedisFault) -> None:
        """Report a failed write; the next check shows whether the fault lasts."""
        if isinstance(fault, LevelNotReached):
            self.level_error = str(fault)
        elif isinstance(fault, AppForbidden | RevocationRefused):
            self.app_faults.write_refused(app, str(fault))
        else:
            self._set_fault(self._topology.place(app), str(fault))

    async def keep_looking(self) -> None:
        """Check every second. Never returns."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("redis", outcome="failed", error="internal")
            if self._store.metas.urgent and not self._faults:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PULSE_SECONDS):
                    await self._look_now.wait()
            self._look_now.clear()

    def look_soon(self) -> None:
        """Check at once: an app may be served again."""
        self._look_now.set()

    async def look(self) -> None:
        """Check every server once; `last_error` and `down` have the result."""
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                await self._topology.look_up()
        except EXCHANGE_FAULTS as error:
            # The topology stays as it was known; its servers are checked.
            self._warn("", "look_up", str(fault_of(error)))
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                servers = await self._topology.primaries()
        except EXCHANGE_FAULTS as error:
            self.infos.clear()
            self._set_fault("", str(fault_of(error)))
            self.looked = True
            return
        turn = self._turn(servers)
        for gone in self._faults.keys() - servers.keys():
            self._set_fault(gone, None)
        for gone in self.infos.keys() - servers.keys():
            del self.infos[gone]
        changed = await asyncio.gather(
            *(
                self._look_at(place, server, turn.get(place, []))
                for place, server in servers.items()
            )
        )
        self.looked = True
        # What an app's fault has kept from being written again can be written now.
        repaired, self.app_faults.repaired = self.app_faults.repaired, False
        if any(changed) or repaired:
            self._on_change()

    def _turn(self, servers: Iterable[str]) -> dict[str, list[str]]:
        """The apps to check now, by server. Each server that has apps gets one at least, which
        shows whether it takes writes, and whether it came back empty."""
        turn: dict[str, list[str]] = {}
        for app in self._store.metas.turn():
            turn.setdefault(self._topology.place(app), []).append(app)
        for place in servers:
            known = self._known.get(place)
            if place in turn:
                self._known[place] = turn[place][0]
            elif known is not None and self._topology.place(known) == place:
                turn[place] = [known]
        return turn

    async def _look_at(self, place: str, server: Redis, apps: list[str]) -> bool:
        """Check one server. True when acknowledged writes may be lost."""
        was_down = place in self._faults
        try:
            info, gone, emptied = await self._ask(place, server)
            # Before the write: ``INFO`` explains why a server takes none.
            self._warn_of_facts(place, info)
            self.infos[place] = info
            missing = bool(apps) and await self._store.metas.write(server, apps, self._holds)
            missing = missing or gone
            if emptied or self._vanished(place, gone):
                self._on_emptied()
                missing = True
        except EXCHANGE_FAULTS as error:
            if isinstance(fault := fault_of(error), RedisAway):
                self.infos.pop(place, None)
            self._set_fault(place, str(fault))
            return False
        before, self._run_ids[place] = self._run_ids.get(place), str(info.get("run_id", ""))
        renewed = before != self._run_ids[place]
        if renewed or was_down:
            await self._prepare(place, server)
        self._set_fault(place, self._fault_of_all())
        if renewed:
            await self._look_at_level(place, server)
        # Also after an outage, as the run id may be unreadable; and when everything is gone
        # without a restart.
        changed = renewed or was_down or missing
        if changed and before is not None:
            self._store.metas.check_all_soon()
        return changed

    def _vanished(self, place: str, gone: bool) -> bool:
        """Whether a server without the generation has lost what was written to it."""
        if self._generation.usable and place == self._topology.place_of(GENERATION_KEY):
            return False
        return self._store.metas.vanished and (gone or self._last_marker(place) is None)

    def _fault_of_all(self) -> str | None:
        """The fault of every app, if all have one: the user lacks the rights for any of them."""
        faults = self.app_faults.of_meta
        if faults and len(faults) == len(self._store.apps):
            return next(iter(faults.values()))
        return None

    async def _look_at_level(self, place: str, server: Redis) -> None:
        """Report a server that can never reach the level, before a logout waits for it."""
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                fault = await self._store.level_fault(server)
        except EXCHANGE_FAULTS:
            return  # the next check finds it away
        before = self._level_faults.pop(place, None)
        if fault is not None:
            self._warn(place, "durability", fault)
            self.level_error = self._level_faults[place] = fault
        elif before is not None and self.level_error == before:
            self.level_error = None

    async def _prepare(self, place: str, server: Redis) -> None:
        """Connect, and have a new server know the script, before the first logout: on a slow link
        one round trip is all that a logout has time for. Without arguments the script changes
        nothing, and no other right is needed."""
        command = partial(server.execute_command, "EVAL", SCRIPT, 0)
        slow = self._topology.round_trips[place] > SLOW_SECONDS
        connections = 1 + (FLUSHERS_THAT_WAIT if slow else FLUSHERS)
        try:
            async with asyncio.timeout(_PREPARE_SECONDS):
                # At the same time, so that each needs a connection of its own.
                answers = await asyncio.gather(
                    *(command() for _ in range(connections)), return_exceptions=True
                )
        except TimeoutError:
            return  # the connections are still made
        for answer in answers:
            if isinstance(answer, BaseException):
                fault = fault_of(answer)
                if not isinstance(fault, RevocationRefused | RedisAway):
                    self._warn(place, "script", str(fault))

    async def _ask(self, place: str, server: Redis) -> tuple[dict[str, Any], bool, bool]:
        """``INFO``; whether the marker of the latest acknowledged revocation is gone; and whether
        this is not the Redis that was written to."""
        pipeline = server.pipeline(transaction=False)
        pipeline.info()
        with_generation = place == self._topology.place_of(GENERATION_KEY)
        if with_generation:
            pipeline.get(GENERATION_KEY)
        if (marker := self._last_marker(place)) is not None:
            pipeline.exists(marker)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(REDIS_SECONDS):
            began = loop.time()
            info, *rest = await pipeline.execute(raise_on_error=False)
        self._topology.round_trips[place] = loop.time() - began
        if isinstance(info, NoPermissionError):
            # A Sentinel failover shows in the address, any other change as an outage.
            info = {"run_id": getattr(server.connection_pool, "master_address", "")}
        if isinstance(info, Exception):
            raise info
        emptied = with_generation and await self._generation.check(server, rest.pop(0))
        return info, rest == [0], emptied

    def _last_marker(self, place: str) -> str | None:
        last = self._last()
        if last is None or self._topology.place(last.app) != place:
            return None
        if last.received_at + last.heading.life < time.time():
            return None  # expired
        return last.marker_keys[0]

    def _warn_of_facts(self, place: str, info: Mapping[str, Any]) -> None:
        """Warn, once, of each way in which this server can lose or refuse a marker."""
        for fact in facts_of(info):
            if fact.fault:
                self._warn(place, fact.what, fact.detail)

    def _warn(self, place: str, what: str, detail: str) -> None:
        if (place, what, detail) not in self._warned:
            log.warning("redis", outcome="warned", server=place or None, what=what, detail=detail)
            self._warned.add((place, what, detail))

    def _set_fault(self, place: str, error: str | None) -> None:
        if error != self._faults.get(place):
            level = logging.INFO if error is None else logging.WARNING
            outcome = "writable" if error is None else "not_writable"
            log.log(level, "redis", outcome=outcome, server=place or None, error=error)
        if error is None:
            self._faults.pop(place, None)
        else:
            self._faults[place] = error
