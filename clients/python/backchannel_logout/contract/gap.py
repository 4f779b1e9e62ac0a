"""What a listener hands over where it can not hand over events: some may be missing. Pure."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from backchannel_logout.contract.keys import VERSION


class GapReason(StrEnum):
    """Why events may be missing."""

    BEGAN = "began"
    """The listener begins: nobody remembers what it has seen before, if anything."""
    TRIMMED = "trimmed"
    """The stream was trimmed past events that had not been handled."""
    LOST = "lost"
    """Redis has lost the stream, the group, or their newest part."""
    UNKNOWN = "unknown"
    """An event that this release can not read: nobody can tell whom it ended."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Some events may be missing: check your sessions anew, with ``which_revoked`` of a guard.

    ``since`` is the id of the last stream entry before the gap; None where that is not known,
    and of an event that can not be read its own. A gap may be a false alarm, and may come twice.
    """

    reason: GapReason
    since: str | None = None

    def to_json(self) -> str:
        """The value of its field in the hash ``app:gaps:<listener>``."""
        return json.dumps(
            {"v": VERSION, "reason": self.reason.value, "since": self.since}, separators=(",", ":")
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read it back. What can not be read is a gap, too: of an unknown kind and beginning."""
        try:
            members = json.loads(text)
            since = members["since"]
            return cls(GapReason(members["reason"]), since if isinstance(since, str) else None)
        except (ValueError, TypeError, KeyError, RecursionError):
            return cls(GapReason.UNKNOWN)
