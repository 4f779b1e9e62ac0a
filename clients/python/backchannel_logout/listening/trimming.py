"""Whether a stream was trimmed past the position of a group. Pure."""

from typing import Any

from backchannel_logout.contract.event import stream_id
from backchannel_logout.listening.takeover import pairs


class TrimmingCheck:
    """Compares the group's position before a read with the oldest entry after it.

    Trimming removes the oldest first: while an entry at or before the position exists, no later one
    was trimmed. Otherwise one may have been.
    """

    def __init__(self, group: str) -> None:
        self._group = group.encode()
        self.reported_beginning = False
        """Whether a gap was delivered because the group began."""
        self._reported_empty = (0, 0)

    def position(self, groups: list[Any]) -> bytes | None:
        """The group's last delivered id, in a reply to ``XINFO GROUPS``."""
        own = [group for group in map(pairs, groups) if group[b"name"] == self._group]
        return own[0][b"last-delivered-id"] if own else None

    def is_past(self, before: bytes, ids: list[bytes], stream: list[Any]) -> bool:
        """``ids`` were read after ``before``; ``stream`` is the reply to ``XINFO STREAM`` after the
        read. An emptied stream is reported once."""
        state = pairs(stream)
        first = state[b"first-entry"]
        newest = stream_id(state[b"last-generated-id"])
        position = stream_id(before)
        if ids:
            trimmed = first is None or stream_id(first[0]) > position
        else:
            trimmed = first is None and newest > position and newest != self._reported_empty
            self._reported_empty = newest if trimmed else self._reported_empty
        begins = position == (0, 0) and self.reported_beginning
        return trimmed and not begins
