"""What happened to one token, told in one line of the log."""

import logging
import time

from app.publish.writer import Written
from app.telemetry.log import tell
from app.telemetry.tally import Tally

log = logging.getLogger("app.backchannel")  # as it has always been found

_GOOD = frozenset(Written)


class Story:
    """The one log line of a token, and its count: what happened to it, never what was in it.

    ``began`` is of ``time.perf_counter``.
    """

    def __init__(self, began: float, tally: Tally) -> None:
        self._began = began
        self._tally = tally
        self._verified: float | None = None
        self.issuer = "-"
        self.client_ids: tuple[str, ...] = ()
        self.outcome = "-"

    def signed(self, iat: object, arrived_at: float) -> None:
        """The signature is good; ``iat`` is the token's, ``arrived_at`` epoch seconds."""
        self._tally.signed(self.issuer, iat, arrived_at)

    def judged(self, client_ids: tuple[str, ...]) -> None:
        """Every rule holds."""
        self.client_ids = client_ids
        self._verified = time.perf_counter() - self._began

    def tell(self, outcome: str, reason: str = "-") -> None:
        seconds = time.perf_counter() - self._began
        self._tally.token(
            self.issuer, self.client_ids, outcome, reason,
            seconds=seconds, verified=self._verified,
        )  # fmt: skip
        level = logging.INFO if outcome in _GOOD else logging.WARNING
        clients = ",".join(self.client_ids) or "-"
        ms = seconds * 1000
        tell(
            log,
            level,
            f"logout outcome={outcome} reason={reason} issuer={self.issuer} clients={clients}"
            f" ms={ms:.1f}",
        )
