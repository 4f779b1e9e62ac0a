"""Records in the audit who did what, and who viewed whose sessions.

A view that cannot be recorded is refused: it would go unnoticed, and a later request loses nothing.
An act is carried out even if it cannot be recorded, because an unavailable audit must not keep a
stolen session alive; the log still has it.
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
from app.web.errors import ApiError
from backchannel_logout.redis.connection import AsyncClient

log = new_log(__name__)

# Pages refresh every second: the same view is recorded once in ten minutes.
_REPEAT_SECONDS = 600.0

# Views that are remembered, some hundred bytes each.
_MAX_REMEMBERED = 2000


class AuditLog:
    """Writes to Redis by ``client``."""

    def __init__(self, settings: Settings, client: AsyncClient) -> None:
        self._settings = settings
        self._client = client
        self._hash: KeyedHash | None = None
        self._viewed: OrderedDict[str, float] = OrderedDict()

    async def record_view(self, act: str, request: Request, **members: Any) -> None:
        """Raise `ApiError` if the view cannot be recorded."""
        try:
            await self._write(_act(act, request, members))
        except EXCHANGE_FAULTS as error:
            raise ApiError(
                503, "audit_unavailable", "the audit can not be written now, so nothing is shown",
                retry_after=5,
            ) from error  # fmt: skip

    async def record_repeated_view(self, act: str, request: Request, **members: Any) -> None:
        """`record_view`, at most once in ten minutes for the same operator and subject."""
        key, now = repr(_act(act, request, members)), time.monotonic()
        if now - self._viewed.get(key, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return
        await self.record_view(act, request, **members)
        self._viewed.pop(key, None)
        self._viewed[key] = now
        if len(self._viewed) > _MAX_REMEMBERED:
            self._viewed.popitem(last=False)

    async def record_act(self, act: str, request: Request, **members: Any) -> bool:
        """Record what the request's operator did. Returns whether the audit has it; never fails."""
        return await self.record(_act(act, request, members))

    async def record(self, act: Act) -> bool:
        """Returns whether the audit has it; never fails."""
        try:
            await self._write(act)
        except EXCHANGE_FAULTS as error:
            log.error("audit", outcome="not_written", act=act.act, error=type(error).__name__)
            return False
        return True

    async def keyed_hash(self) -> KeyedHash | None:
        """The keyed hash of users' and sessions' ids; None while its key cannot be read."""
        if self._hash is None:
            with contextlib.suppress(*EXCHANGE_FAULTS):
                self._hash = await keyed_hash(self._settings, self._client)
        return self._hash

    async def _write(self, act: Act) -> None:
        # Without the key, no user or session is identified; the log line is still written.
        hashed: Callable[[str], str] = await self.keyed_hash() or (lambda _: "unknown")
        await Audit(self._client, hashed).write(act)


def _act(act: str, request: Request, members: dict[str, Any]) -> Act:
    operator = params.operator(request)
    own = {"who": operator.who, "who_iss": operator.iss, "peer": operator.peer}
    return Act(**{"act": act} | own | members)
