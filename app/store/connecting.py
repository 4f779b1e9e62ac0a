"""Connections whose set-up goes on when the command that wanted it gives up.

A new connection takes several round trips (TCP, TLS, AUTH, a name), so on a slow link it takes
longer than one command may wait. Cancelled with each command, it would never be there.
"""

import asyncio
from functools import cache
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from backchannel_logout.redis.connection import pools_of


@cache
def patient(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """The subclass of redis-py's connection that behaves so. Each step still has its time-out."""

    class PatientConnection(kind):  # type: ignore[valid-type, misc]
        _connecting: asyncio.Task[None] | None = None

        async def connect(self) -> None:
            if self._connecting is not None:
                # It began for an earlier command: if it fails now, this one gets its own try.
                await asyncio.wait([self._connecting])
            if self.is_connected:
                return
            self._connecting = asyncio.create_task(super().connect())
            self._connecting.add_done_callback(self._connected)
            await asyncio.shield(self._connecting)

        def _connected(self, task: asyncio.Task[None]) -> None:
            self._connecting = None
            if not task.cancelled():
                task.exception()  # or asyncio logs it, if nobody waits any more

        async def disconnect(self, *arguments: Any, **reasons: Any) -> None:
            connecting = self._connecting
            if connecting is not None and connecting is not asyncio.current_task():
                connecting.cancel()
            await super().disconnect(*arguments, **reasons)

    return PatientConnection


def connect_patiently(client: Redis) -> None:
    """Have every new connection of the client, and of its Sentinels, be patient."""
    for pool in pools_of(client):
        pool.connection_class = patient(pool.connection_class)  # type: ignore[arg-type]
