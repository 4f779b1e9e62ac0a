"""What happened to one token, told in one line of the log."""

import logging
import time

from app.publish.writer import Written
from app.telemetry.log import tell

log = logging.getLogger("app.backchannel")  # as it has always been found

_GOOD = frozenset(Written)


class Story:
    """The one log line of a token: what happened to it, never what was in it."""

    def __init__(self, began: float) -> None:
        self._began = began
        self.issuer = "-"
        self.client_ids: tuple[str, ...] = ()
        self.outcome = "-"

    def tell(self, outcome: str, reason: str = "-") -> None:
        level = logging.INFO if outcome in _GOOD else logging.WARNING
        clients = ",".join(self.client_ids) or "-"
        ms = (time.perf_counter() - self._began) * 1000
        tell(
            log,
            level,
            f"logout outcome={outcome} reason={reason} issuer={self.issuer} clients={clients}"
            f" ms={ms:.1f}",
        )
