"""Whether this is still the Redis that was written to: a key with a random value.

A receiver keeps the value where it keeps its copy. If Redis has none, or another one, it came back
empty, or is another server: what was acknowledged is not there.
"""

import uuid
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.log import new_log
from app.store.errors import AppForbidden, RedisFault, fault_of
from backchannel_logout.contract.keys import VERSION

log = new_log(__name__)

GENERATION_KEY = f"bcl:v{VERSION}:generation"


class Generation:
    """``known`` is the value that an earlier process has kept; ``keep`` keeps another one."""

    def __init__(
        self,
        known: Callable[[], str | None] = lambda: None,
        keep: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._known = known
        self._keep = keep
        self.usable = True
        """Whether the Redis user may read and write the key."""

    async def check(self, server: Redis, found: object) -> bool:
        """Compare with the reply to ``GET``; True when the Redis is not the one that was written
        to. Creates the value if there is none. Raises the library's errors."""
        if isinstance(found, RedisError):
            self._refused(fault_of(found))
            return False
        known = self._known()
        if isinstance(found, bytes):
            value = found.decode("utf-8", "replace")
            if value != known:
                self._keep(value)
            return known not in (None, value)
        # Before the write: of several receivers one creates it, and the others take theirs from it.
        self._keep(None)
        try:
            await server.set(GENERATION_KEY, uuid.uuid4().hex, nx=True)
        except RedisError as error:
            self._refused(fault_of(error))
        return known is not None

    def _refused(self, fault: RedisFault) -> None:
        if self.usable and isinstance(fault, AppForbidden):
            self.usable = False
            detail = "an empty Redis is noticed less surely: see the ACL rules in docs/contract.md"
            log.warning("redis", outcome="warned", what="generation", detail=f"{fault}: {detail}")
