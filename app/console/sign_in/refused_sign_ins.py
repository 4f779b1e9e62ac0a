"""Records refused sign-ins in the audit, limited so that a flood does not displace other entries.

Everybody who reaches the sign-in can fail there. At most `MAX_BURST` refusals are recorded at once,
and as many again in a week; a reason gets more only while it has less than is left. The log has a
line for each of the others. A throttled address is recorded once per wait.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request

from app.audit import Act
from app.telemetry.fair_quota import FairQuota
from app.web.audit_log import AuditLog
from app.web.operator import peer_address

ACT = "console.sign_in"

REFUSED = "refused"

THROTTLED = "throttled"

MAX_BURST = 200

WINDOW_SECONDS = 7 * 86400.0

# Throttled addresses that are remembered.
_MAX_WAITING = 1000


class RefusedSignIns:
    """``monotonic`` is in seconds."""

    def __init__(
        self, audit_log: AuditLog, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._audit_log = audit_log
        self._monotonic = monotonic
        self._quota = FairQuota(MAX_BURST, WINDOW_SECONDS, monotonic)
        self._waiting: OrderedDict[str, float] = OrderedDict()

    async def record(
        self,
        request: Request,
        why: str,
        *,
        who: str = "-",
        iss: str | None = None,
        sub: str | None = None,
        wait: float = 0.0,
    ) -> None:
        """Never fails. ``why`` is a code of ours; ``wait`` is how many seconds a throttled address
        has to wait."""
        peer = peer_address(request.scope)
        if why == THROTTLED and not self._is_new_wait(peer, wait):
            return
        if self._quota.takes(why):
            await self._audit_log.record(
                Act(
                    act=ACT, who=who, who_iss=iss, why=why, outcome=REFUSED,
                    iss=iss, sub=sub, peer=peer,
                )
            )  # fmt: skip

    def _is_new_wait(self, peer: str, wait: float) -> bool:
        now = self._monotonic()
        if self._waiting.get(peer, float("-inf")) > now:
            return False
        self._waiting.pop(peer, None)
        self._waiting[peer] = now + wait
        if len(self._waiting) > _MAX_WAITING:
            self._waiting.popitem(last=False)
        return True
