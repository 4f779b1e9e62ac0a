"""The kinds of markers and events: which sessions a revocation ends.

Keys, events, the decision, the near cache and the receiver read this one table.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class EventKind(StrEnum):
    """Which sessions a revocation ends."""

    SESSION = "session"
    """The sessions with this ``iss`` and ``sid``."""
    USER = "user"
    """Every session with this ``iss`` and ``sub``."""
    ALL = "all"
    """Every session of this ``iss``."""

    # Enum's own hash is a Python function, and this is a dict key on every logout.
    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True)
class MarkerKind:
    """One row: the event's ``kind``, the part of the marker's key, the claim that names the
    sessions besides ``iss`` (None: ``iss`` names them alone), and a text for people."""

    kind: EventKind
    key_part: str
    claim: str | None
    text: str

    def value(self, named: Any) -> str | None:
        """The claim's value in a session or an event; empty for a kind without a claim."""
        return "" if self.claim is None else getattr(named, self.claim)


# In the order of `decision.marker_keys`.
MARKER_KINDS = (
    MarkerKind(EventKind.ALL, "all", None, "every session of the issuer"),
    MarkerKind(EventKind.SESSION, "sid", "sid", "one session"),
    MarkerKind(EventKind.USER, "sub", "sub", "every session of one user"),
)

MARKER_KIND = {row.kind: row for row in MARKER_KINDS}


def kind_for(sid: str | None, sub: str | None) -> EventKind:
    """The narrowest kind that these claims name."""
    return EventKind.SESSION if sid else EventKind.USER if sub else EventKind.ALL
