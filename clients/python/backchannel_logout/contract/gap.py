"""The item that a listener delivers where events may be missing."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from backchannel_logout.contract.keys import VERSION


class GapReason(StrEnum):
    """Why events may be missing."""

    BEGAN = "began"
    """The listener starts: there is no record of what it has handled before."""
    TRIMMED = "trimmed"
    """The stream was trimmed past events that had not been handled."""
    LOST = "lost"
    """Redis has lost the stream, the group, or their newest part."""
    UNKNOWN = "unknown"
    """An event that this release cannot read: it may have ended any session."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Some events may be missing: check your sessions again, with ``which_revoked`` of a guard.

    ``since`` is the id of the last stream entry before the gap; None where it is not known; for an
    event that cannot be read, its own id. A gap may be a false alarm and may arrive twice.
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
        """Parse it. Text that cannot be parsed is a gap too, of unknown reason and start."""
        try:
            members = json.loads(text)
            since = members["since"]
            return cls(GapReason(members["reason"]), since if isinstance(since, str) else None)
        except (ValueError, TypeError, KeyError, RecursionError):
            return cls(GapReason.UNKNOWN)
