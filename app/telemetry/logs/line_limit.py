"""Limits how many lines of refused tokens are logged per minute, and logs a count of the rest.

Anyone can send thousands of tokens a second that are refused. A line for each would push other
lines out of a log that is rotated by size. The limit is shared like the stream of refusals: tokens
that an issuer has signed have the largest share, and within a share each pair of reason and issuer
gets more only while it has less than what is left.

Accepted logouts, and validly signed tokens that could not be processed now, have no limit.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from app.log import new_log
from app.telemetry.fair_quota import FairQuota
from app.telemetry.refusals import SHARES, share_of

log = new_log("app.backchannel")

MAX_LINES = 600
"""Lines that a flood can add at once, and then per `WINDOW_SECONDS`."""

WINDOW_SECONDS = 60.0

SUMMARY_SECONDS = 10.0
"""How long lines are counted before the count is logged."""

_Kind = tuple[str, str | None, str | None]
"""Outcome, reason and issuer."""


class LineLimit:
    """Decides for each line of a refused token whether it is logged; ``on_left_out`` counts those
    that are not."""

    def __init__(
        self,
        on_left_out: Callable[[int], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_left_out = on_left_out
        self._fair = {
            name: FairQuota(MAX_LINES * share, WINDOW_SECONDS, monotonic)
            for name, share in SHARES.items()
        }
        self._left_out: Counter[_Kind] = Counter()

    def takes(
        self, outcome: str, reason: str | None, issuer: str | None, *, verified: bool
    ) -> bool:
        """Whether to log the line of this token. ``verified``: its signature is valid."""
        if self._fair[share_of(issuer, verified=verified)].takes((reason, issuer)):
            return True
        self._left_out[outcome, reason, issuer] += 1
        self._on_left_out(1)
        return False

    def report(self) -> None:
        """Log how many lines of each kind were left out since the last call."""
        left_out, self._left_out = self._left_out, Counter()
        for (outcome, reason, issuer), count in left_out.items():
            log.warning(
                "logouts", outcome=outcome, reason=reason, issuer=issuer, lines_left_out=count
            )

    async def keep_reporting(self) -> None:
        """`report` every `SUMMARY_SECONDS`, and at the end. Never returns."""
        try:
            while True:
                await asyncio.sleep(SUMMARY_SECONDS)
                self.report()
        finally:
            self.report()
