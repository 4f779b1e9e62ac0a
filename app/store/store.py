"""Writes revocations to Redis, and what every relying app must find there.

One atomic script (`store.lua`, which begins with a map of its keys) for each revocation, many of
them in one round trip, each with a result of its own. The client package defines the keys.
"""

import asyncio
import contextlib
import hashlib
import math
from collections.abc import Mapping, Sequence, Set
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AskError, MovedError, NoScriptError, RedisError

from app.config.types import MEMORY, Durability
from app.revocation import MARKER_MARGIN_SECONDS, Revocation
from app.store.app_faults import AppFaults
from app.store.app_meta import AppMetas, AppNames
from app.store.command import Commands, packed
from app.store.durability import DurabilityWait
from app.store.errors import (
    EXCHANGE_FAULTS,
    LevelNotReached,
    RedisAway,
    RedisFault,
    fault_of,
    fault_of_exchange,
)
from app.store.topology import REDIS_SECONDS, RedisTopology
from backchannel_logout.redis.pipeline import ReusedPipelines, reused_pipelines

SCRIPT = (
    files(__package__)
    .joinpath("store.lua")
    .read_text("utf-8")
    .replace("MARGIN", str(MARKER_MARGIN_SECONDS))
)
SCRIPT_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""The script by its name, for ``EVALSHA``."""

NEW_MARKER = 2
"""The script's reply when a marker was new; 1: all were there, 0: nothing was changed."""

Result = int | RedisFault
"""The outcome of one revocation: the script's reply, or the fault."""


class Store:
    """Writes revocations. ``apps`` maps each relying app to its ``max_session_age``, in seconds;
    ``names`` to the issuers and client ids that its guards find in ``meta``."""

    def __init__(
        self,
        link: RedisTopology,
        *,
        apps: Mapping[str, int],
        event_retention: float,
        event_max_len: int,
        durability: Durability = MEMORY,
        names: Mapping[str, AppNames] | None = None,
    ) -> None:
        self.link = link
        self.apps: Sequence[str] = tuple(apps)
        """The relying apps that it writes for."""
        self.app_faults = AppFaults()
        self.metas = AppMetas(apps, names or {}, self.app_faults)
        self._commands = Commands(
            SCRIPT_SHA,
            max_len=event_max_len,
            max_age_ms=math.ceil(event_retention * 1000),
        )
        self._durability = DurabilityWait(durability)

    @property
    def level(self) -> str:
        """The level of durability that each write waits for."""
        return self._durability.level

    def serve(self, apps: Mapping[str, int], names: Mapping[str, AppNames]) -> None:
        """Write for these apps from now on."""
        self.apps = tuple(apps)
        self.metas.serve(apps, names)

    async def write(
        self,
        revocations: Sequence[Revocation],
        *,
        again: Sequence[bool] = (),
        pipeline: ReusedPipelines | None = None,
    ) -> list[Result]:
        """Write markers, events and jti of each, in one round trip to each server concerned.

        After a fault the revocation may have been written or not; writing it again is harmless.
        ``again`` marks those which were acknowledged before and may have been lost since: they are
        left alone if their markers are still there and, while it is remembered, their ``jti``.
        ``pipeline`` reuses the connections of earlier writes.
        """
        if not revocations:
            return []
        again = again or [False] * len(revocations)
        if pipeline is None:
            async with reused_pipelines() as pipeline:
                return await self._write(revocations, again, pipeline)
        return await self._write(revocations, again, pipeline)

    async def _write(
        self, revocations: Sequence[Revocation], again: Sequence[bool], pipeline: ReusedPipelines
    ) -> list[Result]:
        if (only := self.link.only) is not None:
            return await self._write_to(only, revocations, again, pipeline)
        results: list[Result] = [RedisAway("not asked")] * len(revocations)
        by_server: dict[Redis | RedisFault, list[int]] = {}
        servers = await self._servers({revocation.app for revocation in revocations})
        for index, revocation in enumerate(revocations):
            by_server.setdefault(servers[revocation.app], []).append(index)
        shares = await asyncio.gather(
            *(
                self._write_to(
                    server, [revocations[i] for i in indexes], [again[i] for i in indexes], pipeline
                )
                for server, indexes in by_server.items()
            )
        )
        for indexes, share in zip(by_server.values(), shares, strict=True):
            for index, result in zip(indexes, share, strict=True):
                results[index] = result
        return results

    async def _servers(self, apps: Set[str]) -> dict[str, Redis | RedisFault]:
        """Each app's server. One deadline for all, so that nodes which hang are awaited once."""
        servers: dict[str, Redis | RedisFault] = dict.fromkeys(apps, RedisAway("timeout"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REDIS_SECONDS):
                for app in apps:
                    try:
                        servers[app] = await self.link.primary(app)
                    except EXCHANGE_FAULTS as error:
                        servers[app] = fault_of_exchange(error)
        return servers

    async def _write_to(
        self,
        server: Redis | RedisFault,
        revocations: Sequence[Revocation],
        again: Sequence[bool],
        pipeline: ReusedPipelines,
    ) -> list[Result]:
        """One server's share of `write`."""
        if isinstance(server, RedisFault):
            return [server] * len(revocations)
        try:
            return await self._run_scripts(server, revocations, again, pipeline)
        except EXCHANGE_FAULTS as error:
            return [fault_of_exchange(error)] * len(revocations)

    async def _run_scripts(
        self,
        server: Redis,
        revocations: Sequence[Revocation],
        again: Sequence[bool],
        pipeline: ReusedPipelines,
    ) -> list[Result]:
        def with_script(i: int) -> bytes:
            return packed("EVAL", SCRIPT, *self._commands.arguments(revocations[i], again[i]))

        commands = [*map(self._commands.packed, revocations, again)]
        wait: list[bytes] = []
        if self._durability.waits:
            # Sends the script along: a second round trip would wait for the level once more.
            commands[0] = with_script(0)
            # Only apps on this server: a Cluster's other nodes would refuse them.
            meta_keys = sorted({revocation.heading.keys.meta for revocation in revocations})
            wait = self._durability.commands(meta_keys)
        replies = await self._exchange(server, commands, wait, pipeline)
        if {*map(type, replies)} == {int}:  # nearly always
            return replies
        missing = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missing:
            # A new server. The first command sends the script along, the others find it there.
            commands = [with_script(missing[0]), *(commands[i] for i in missing[1:])]
            later = await self._exchange(server, commands, wait, pipeline)
            for i, reply in zip(missing, later, strict=True):
                replies[i] = reply
        for i, reply in enumerate(replies):
            if isinstance(reply, AskError) and not isinstance(reply, MovedError):
                arguments = self._commands.arguments(revocations[i], again[i])
                replies[i] = await self._redirect(arguments)
        return [fault_of(reply) if isinstance(reply, RedisError) else reply for reply in replies]

    async def _exchange(
        self,
        server: Redis,
        commands: Sequence[bytes],
        wait: Sequence[bytes],
        pipeline: ReusedPipelines,
    ) -> list[Any]:
        """Run the commands on one connection, and wait there for the level of durability."""
        replies = await pipeline.exchange(server, [*commands, *wait], within=REDIS_SECONDS)
        if not wait:
            return replies
        return self._durability.applied(replies[: len(commands)], replies[len(commands) :])

    async def _redirect(self, command: list[str | int]) -> Result:
        """Write while a Cluster moves the app's slot, where the level of durability is unknown."""
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                reply: int = await self.link.redirected(SCRIPT, command)
        except EXCHANGE_FAULTS as error:
            return fault_of(error)
        return LevelNotReached("slot_moving", reply) if self._durability.waits else reply

    async def level_fault(self, server: Redis) -> str | None:
        """Why no write to this server can reach the level of durability: `DurabilityWait.fault`."""
        return await self._durability.fault(server)
