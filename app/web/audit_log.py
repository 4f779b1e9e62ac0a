"""The audit, as the admin API writes it.

A look at a user's sessions that can not be noted is refused: nobody would know of it, and nothing
is lost by asking later. An act goes through: to leave a stolen session alive because the audit is
away would protect the wrong one; the line of the log has it.
"""

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from app.audit import Act, Audit
from app.config.model import Settings
from app.log import new_log
from app.store.errors import EXCHANGE_FAULTS
from app.telemetry.hashes import KeyedHash, keyed_hash
from app.web import params
from app.web.errors import ApiFault
from backchannel_logout.redis.connection import AsyncClient

log = new_log(__name__)

# Who watches something looks again each second: of the same look an entry each ten minutes.
_NOTED_SECONDS = 600.0

# Looks that are remembered; some hundred bytes each.
_MOST_NOTED = 2000


class AuditLog:
    """Writes to Redis by ``client``. ``clock`` is epoch seconds."""

    def __init__(
        self, settings: Settings, client: AsyncClient, clock: Callable[[], float] = time.time
    ) -> None:
        self.clock = clock
        self._settings = settings
        self._client = client
        self._hashed: KeyedHash | None = None
        self._looked: OrderedDict[str, float] = OrderedDict()

    async def look(self, act: str, request: Request, **members: Any) -> None:
        """Note that somebody looks. Raises `ApiFault` where that can not be noted."""
        try:
            await self._write(_act(act, request, members))
        except EXCHANGE_FAULTS as error:
            raise ApiFault(
                503, "audit_unavailable", "the audit can not be written now, so nothing is shown",
                retry_after=5,
            ) from error  # fmt: skip

    async def look_again(self, act: str, request: Request, **members: Any) -> None:
        """`look`, for what pages and scripts look at again and again: noted once in ten minutes for
        who looks and at what."""
        key, now = repr(_act(act, request, members)), time.monotonic()
        if now - self._looked.get(key, -_NOTED_SECONDS) < _NOTED_SECONDS:
            return
        await self.look(act, request, **members)
        self._looked.pop(key, None)
        self._looked[key] = now
        if len(self._looked) > _MOST_NOTED:
            self._looked.popitem(last=False)

    async def act(self, act: str, request: Request, **members: Any) -> None:
        """Note what was done. Never fails."""
        await self.note(_act(act, request, members))

    async def note(self, act: Act) -> None:
        """Note what has come of an act. Never fails."""
        try:
            await self._write(act)
        except EXCHANGE_FAULTS as error:
            log.error("audit", outcome="not_written", act=act.act, error=type(error).__name__)

    async def hashed(self) -> KeyedHash | None:
        """The keyed hash of users' and sessions' ids; None while its key cannot be had."""
        if self._hashed is None:
            with contextlib.suppress(*EXCHANGE_FAULTS):
                self._hashed = await keyed_hash(self._settings, self._client)
        return self._hashed

    async def _write(self, act: Act) -> None:
        # Without the key nobody's name is written; the line of the log still is.
        hashed: Callable[[str], str] = await self.hashed() or (lambda _: "unknown")
        await Audit(self._client, hashed, self.clock).write(act)


def _act(act: str, request: Request, members: dict[str, Any]) -> Act:
    operator = params.operator(request)
    own = {"who": operator.who, "who_iss": operator.iss, "peer": operator.peer}
    return Act(**{"act": act} | own | members)
