"""That a listener has handled an event: an entry of the stream ``app:receipts``. Pure.

So anybody can see whether a logout has reached an app, and how long after its arrival. Capped
and holds nothing of the event but its id.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from backchannel_logout.contract.event import stream_id
from backchannel_logout.contract.keys import VERSION

MAX_RECEIPTS = 100_000
"""About how many an app's stream holds: some 20 MB in Redis."""


class Outcome(StrEnum):
    """How an event fared with a handler."""

    DONE = "done"
    FAILED = "failed"
    """It will be tried again."""
    DEAD = "dead"
    """It failed too often, or could not be read, and is among the dead letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One event and one listener. ``event`` is the stream entry's id, ``reader`` the process.

    ``seconds`` have passed from ``received_at`` of the event, by the clocks of the receiver and
    of the app.
    """

    event: str
    listener: str
    reader: str
    seconds: float
    outcome: Outcome

    def to_fields(self) -> dict[str, str]:
        """The fields of the stream's entry."""
        return {
            "v": str(VERSION),
            "event": self.event,
            "listener": self.listener,
            "reader": self.reader,
            "seconds": f"{self.seconds:.6f}",
            "outcome": self.outcome.value,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str | bytes, str | bytes]) -> Self | None:
        """Read an entry; None for one that this release does not understand."""
        try:
            texts = {_text(name): _text(value) for name, value in fields.items()}
            stream_id(texts["event"])
            if texts["v"] != str(VERSION):
                return None
            return cls(
                event=texts["event"],
                listener=texts["listener"],
                reader=texts["reader"],
                seconds=float(texts["seconds"]),
                outcome=Outcome(texts["outcome"]),
            )
        except (ValueError, KeyError):
            return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value
