"""A lease in Redis: of all receivers on it, one does what is needed once.

Not a lock: after a pause of the holder, two may hold it for a moment. So it is only for work that
does no harm when it is done twice.
"""

import asyncio
import contextlib
import uuid

from redis.exceptions import RedisError

from app.log import new_log
from app.store.errors import EXCHANGE_FAULTS, AppForbidden, fault_of
from app.store.topology import REDIS_SECONDS
from backchannel_logout.contract.keys import VERSION
from backchannel_logout.redis.connection import AsyncClient

log = new_log(__name__)

READINGS_KEY = f"bcl:v{VERSION}:readings"

SECONDS = 10
"""How long after the death of the holder another takes over; renewed once a second."""


class Lease:
    """``held``: whether this receiver had it at the last `renew`."""

    def __init__(self, client: AsyncClient, key: str = READINGS_KEY) -> None:
        self._client = client
        self._key = key
        self._own = uuid.uuid4().hex
        self.held = False
        self._forbidden = False

    async def renew(self) -> bool:
        """Take it if it is free, or renew it. While Redis is away nothing changes.

        Without the right to the key every receiver holds it: the work is done by each.
        """
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                self.held = await self._renew()
        except RedisError as error:
            if isinstance(fault_of(error), AppForbidden):
                self._refused()
                self.held = True
        except EXCHANGE_FAULTS:
            return self.held
        return self.held

    async def release(self) -> None:
        """Leave it to the others at once."""
        if not self.held or self._forbidden:
            return
        self.held = False
        with contextlib.suppress(*EXCHANGE_FAULTS):
            async with asyncio.timeout(REDIS_SECONDS):
                if await self._client.get(self._key) == self._own.encode():
                    await self._client.set(self._key, self._own, px=1)

    async def _renew(self) -> bool:
        mine = self.held and await self._client.get(self._key) == self._own.encode()
        if mine:
            return bool(await self._client.expire(self._key, SECONDS))
        taken = bool(await self._client.set(self._key, self._own, nx=True, ex=SECONDS))
        self._forbidden = False
        return taken

    def _refused(self) -> None:
        if not self._forbidden:
            self._forbidden = True
            detail = "every receiver reads for itself: see the ACL rules in docs/contract.md"
            log.warning("redis", outcome="warned", what="readings", detail=f"NOPERM: {detail}")
