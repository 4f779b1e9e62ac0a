"""Sign-ins that were refused, in the audit: bounded, so that a flood pushes no real entry out.

Anybody who reaches the sign-in can fail there. At most `MAX_AT_ONCE` refusals are written at once,
and as many again in a week; each reason gets more only while it has less than is left. The log has
the lines of the others. An address that has to wait is written once for each wait.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request

from app.audit import Act
from app.telemetry.fair_quota import FairQuota
from app.web.audit_log import AuditLog

ACT = "console.sign_in"

REFUSED = "refused"

THROTTLED = "throttled"

MAX_AT_ONCE = 200

WINDOW_SECONDS = 7 * 86400.0

# Addresses that wait and are remembered.
_MAX_WAITING = 1000


class RefusedSignIns:
    """``monotonic`` is in seconds."""

    def __init__(
        self, audit_log: AuditLog, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._audit_log = audit_log
        self._monotonic = monotonic
        self._fair = FairQuota(MAX_AT_ONCE, WINDOW_SECONDS, monotonic)
        self._waiting: OrderedDict[str, float] = OrderedDict()

    async def note(
        self,
        request: Request,
        why: str,
        *,
        who: str = "-",
        iss: str | None = None,
        sub: str | None = None,
        wait: float = 0.0,
    ) -> None:
        """Note a refusal. ``why`` is a code of ours; ``wait`` is for how many seconds the address
        has to wait, where that is why. Never fails."""
        peer = request.client.host if request.client else "-"
        if why == THROTTLED and not self._waits_anew(peer, wait):
            return
        if self._fair.takes(why):
            await self._audit_log.record(
                Act(
                    act=ACT, who=who, who_iss=iss, why=why, outcome=REFUSED,
                    iss=iss, sub=sub, peer=peer,
                )
            )  # fmt: skip

    def _waits_anew(self, peer: str, wait: float) -> bool:
        now = self._monotonic()
        if self._waiting.get(peer, float("-inf")) > now:
            return False
        self._waiting.pop(peer, None)
        self._waiting[peer] = now + wait
        if len(self._waiting) > _MAX_WAITING:
            self._waiting.popitem(last=False)
        return True
