"""Receipts: which events a listener has handled, in the stream ``app:receipts``.

They show whether a logout has reached an app, and how long after its arrival. The stream is capped,
and holds only the id of an event.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from backchannel_logout.contract.event import stream_id
from backchannel_logout.contract.keys import VERSION

MAX_RECEIPTS = 100_000
"""About this many receipts per app: some 20 MB in Redis."""


class Outcome(StrEnum):
    """The outcome of one attempt to handle an event."""

    DONE = "done"
    FAILED = "failed"
    """It will be retried."""
    DEAD = "dead"
    """It failed too often or cannot be read, and is among the dead letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One event and one listener. ``event`` is the stream entry's id, ``reader`` the process.

    ``seconds`` is the time since the event's ``received_at``, by the clocks of the receiver and of
    the app.
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
        """Parse an entry; None for one that this release does not understand."""
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
