"""Redis: one atomic script for each revocation, and what every relying app must find there.

The contract of the keys is in the client package; the script in `store.lua` opens with its
key map. Many revocations go in one round trip, and each has a result of its own.
"""

import asyncio
import contextlib
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence, Set
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AskError, MovedError, NoScriptError, RedisError, ResponseError

from app.config.types import MEMORY, Durability
from app.revocation import Revocation
from app.store.app_meta import AppMetas, AppNames
from app.store.command import Commands, packed
from app.store.errors import (
    EXCHANGE_FAULTS,
    LevelNotReached,
    RedisAway,
    RedisFault,
    fault_of,
    fault_of_exchange,
    level_fault,
)
from app.store.topology import REDIS_SECONDS, RedisTopology
from backchannel_logout.contract.keys import VERSION
from backchannel_logout.redis.pipeline import ReusedPipelines, reused_pipelines

_SCRIPT = files(__package__).joinpath("store.lua").read_text("utf-8")
_SCRIPT_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

# What WAIT and WAITAOF may take of a round trip; the rest is for the way there and back.
_LEVEL_SECONDS = REDIS_SECONDS * 0.8

NEW_MARKER = 2
"""The script's answer when a marker was not there before; 1: it was, 0: nothing was changed."""

Result = int | RedisFault
"""What became of one revocation: the script's answer, or why there is none."""


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
        clock: Callable[[], float],
        durability: Durability = MEMORY,
        names: Mapping[str, AppNames] | None = None,
    ) -> None:
        self.link = link
        self._apps = dict(apps)
        self._metas = AppMetas(apps, names or {}, clock=clock)
        self._commands = Commands(
            _SCRIPT_SHA,
            max_len=event_max_len,
            max_age_ms=math.ceil(event_retention * 1000),
            clock=clock,
        )
        self._durability = durability

    @property
    def level(self) -> str:
        """The level of durability that each write waits for."""
        return self._durability.level

    async def write(
        self,
        revocations: Sequence[Revocation],
        *,
        again: Sequence[bool] = (),
        following: ReusedPipelines | None = None,
    ) -> list[Result]:
        """Write markers, events and jti of each, in one round trip to each server concerned.

        A result that is no number is the fault: then that revocation may have been written or
        not, and writing it again is harmless. ``again`` tells which of them were acknowledged
        before and may have been lost since: those are left alone where their markers are still
        there, and, while it is remembered, their ``jti``. ``following``: the writes that this one
        follows at once.
        """
        if not revocations:
            return []
        if following is None:
            async with reused_pipelines() as alone:
                return await self._write(revocations, again, alone)
        return await self._write(revocations, again, following)

    async def _write(
        self, revocations: Sequence[Revocation], again: Sequence[bool], following: ReusedPipelines
    ) -> list[Result]:
        if (only := self.link.only) is not None:
            return await self._write_to(only, revocations, again, following)
        results: list[Result] = [RedisAway("not asked")] * len(revocations)
        by_server: dict[Redis | RedisFault, list[int]] = {}
        servers = await self._servers({revocation.app for revocation in revocations})
        for index, revocation in enumerate(revocations):
            by_server.setdefault(servers[revocation.app], []).append(index)
        answers = await asyncio.gather(
            *(
                self._write_to(
                    server,
                    [revocations[i] for i in indexes],
                    [again[i] for i in indexes if again],
                    following,
                )
                for server, indexes in by_server.items()
            )
        )
        for indexes, of_server in zip(by_server.values(), answers, strict=True):
            for index, answer in zip(indexes, of_server, strict=True):
                results[index] = answer
        return results

    async def _servers(self, apps: Set[str]) -> dict[str, Redis | RedisFault]:
        """Each app's server. One deadline for all: nodes that hang must not be waited for again
        with each app."""
        found: dict[str, Redis | RedisFault] = dict.fromkeys(apps, RedisAway("timeout"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REDIS_SECONDS):
                for app in apps:
                    try:
                        found[app] = await self.link.primary(app)
                    except EXCHANGE_FAULTS as error:
                        found[app] = fault_of_exchange(error)
        return found

    async def _write_to(
        self,
        server: Redis | RedisFault,
        revocations: Sequence[Revocation],
        again: Sequence[bool],
        following: ReusedPipelines,
    ) -> list[Result]:
        """One server's share of `write`."""
        if isinstance(server, RedisFault):
            return [server] * len(revocations)
        try:
            again = again or [False] * len(revocations)
            return await self._exchange(server, revocations, again, following)
        except EXCHANGE_FAULTS as error:
            return [fault_of_exchange(error)] * len(revocations)

    async def _exchange(
        self,
        server: Redis,
        revocations: Sequence[Revocation],
        again: Sequence[bool],
        following: ReusedPipelines,
    ) -> list[Result]:
        def script(i: int) -> bytes:
            return packed("EVAL", _SCRIPT, *self._commands.arguments(revocations[i], again[i]))

        commands = [*map(self._commands.packed, revocations, again)]
        touched: list[str] = []
        if self._durability.level != "memory":
            # Brings the script along: a second round trip would wait for the level once more.
            commands[0] = script(0)
            # Of apps that are on this server: a Cluster's other nodes would refuse them.
            touched = sorted({revocation.heading.keys.meta for revocation in revocations})
        answers = await self._pipelined(server, commands, touched, following)
        if {*map(type, answers)} == {int}:  # as nearly always: each is a result as it stands
            return answers
        missing = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:
            # The server is new. The first brings the script along, the others find it there.
            repeated = [script(missing[0]), *(commands[i] for i in missing[1:])]
            later = await self._pipelined(server, repeated, touched, following)
            for i, answer in zip(missing, later, strict=True):
                answers[i] = answer
        for i, answer in enumerate(answers):
            if isinstance(answer, AskError) and not isinstance(answer, MovedError):
                arguments = self._commands.arguments(revocations[i], again[i])
                answers[i] = await self._redirected(arguments)
        return [
            fault_of(answer) if isinstance(answer, RedisError) else answer for answer in answers
        ]

    async def _redirected(self, command: list[str | int]) -> Result:
        """Write while a Cluster moves the app's slot; nobody says there how durable it is."""
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                answer: int = await self.link.redirected(_SCRIPT, command)
        except EXCHANGE_FAULTS as error:
            return fault_of(error)
        if self._durability.level == "memory":
            return answer
        return LevelNotReached("slot_moving", answer)

    async def _pipelined(
        self,
        server: Redis,
        commands: Sequence[bytes],
        touched: Sequence[str],
        following: ReusedPipelines,
    ) -> list[Any]:
        """Run the commands on one connection, and wait there for the level of durability.

        The wait counts what this connection has written. A script that changed nothing writes
        nothing, so a write without meaning comes before the wait, to each key of ``touched``: one
        that Redis takes is enough.
        """
        asked, waits = len(commands), self._durability.level != "memory"
        if waits:
            meaningless = [packed("HSET", key, "v", str(VERSION)) for key in touched]
            commands = [*commands, *meaningless, self._wait_command()]
        answers = await following.exchange(server, commands, within=REDIS_SECONDS)
        if not waits:
            return answers
        of_commands, rest = answers[:asked], answers[asked:]
        if (word := self._missed_level(rest[:-1], rest[-1])) is not None:
            return [
                LevelNotReached(word, answer) if isinstance(answer, int) else answer
                for answer in of_commands
            ]
        return of_commands

    def _wait_command(self) -> bytes:
        level_ms = int(_LEVEL_SECONDS * 1000)
        if self._durability.level == "fsync":
            return packed("WAITAOF", 1, 0, level_ms)
        return packed("WAIT", self._durability.replicas, level_ms)

    def _missed_level(self, touched: Sequence[object], waited: object) -> str | None:
        """Why the level was not reached, by the answers to the last commands."""
        refused = [answer for answer in touched if isinstance(answer, RedisError)]
        if len(refused) == len(touched):
            return str(fault_of(refused[0]))
        if isinstance(waited, RedisError):
            return level_fault(waited)
        reached = waited[0] if isinstance(waited, list) else waited
        wanted = 1 if self._durability.level == "fsync" else self._durability.replicas
        if isinstance(reached, int) and reached >= wanted:
            return None
        return f"{self._durability.level}_{reached}_of_{wanted}"

    async def level_fault(self, server: Redis) -> str | None:
        """Why no write to this server can reach the level of durability; None where one may.

        Raises what the library raises where the server does not answer.
        """
        if self._durability.level != "fsync":
            return None  # replicas come and go: each write finds out
        try:
            await server.execute_command("WAITAOF", 1, 0, 1)
        except ResponseError as error:
            return level_fault(error)
        return None

    @property
    def apps(self) -> Sequence[str]:
        """The relying apps that it writes for."""
        return list(self._apps)

    async def write_meta(
        self,
        server: Redis,
        apps: Sequence[str],
        holds: Callable[[str, bool], bool] = lambda _, __: False,
    ) -> bool:
        """Write or renew the ``meta`` of these apps: see `AppMetas.write`."""
        return await self._metas.write(server, apps, holds)
