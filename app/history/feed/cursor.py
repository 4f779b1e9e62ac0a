"""How far a feed's streams have been read, as one line from which a client can resume. Pure.

For up to `MAX_POSITIONS` streams it holds the last id of each. With more, the ids would not fit
into a header; then it holds the ids of recently active streams, and a time up to which all streams
have been delivered completely.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Self

from backchannel_logout.contract.event import stream_id

REFUSALS = "!refusals"
"""The name of the refusals in a cursor. No app can have it."""

_UNTIL = "!until"
MAX_POSITIONS = 32

# The highest sequence numbers within a millisecond, which no entry has: `LAST` marks a start time,
# `LAST_READ` a time up to which everything was read.
LAST = 2**64 - 1
LAST_READ = LAST - 1

# How far Redis' clock and ours may differ before entries are missed.
_CLOCK_SKEW_MS = 60_000


def just_before(ms: int) -> str:
    """The position right before all entries of this millisecond."""
    return f"{max(0, ms - 1)}-{LAST}"


class Cursor(dict[str, str]):
    """The last id of each stream, by the app's name or `REFUSALS`.

    ``until`` is a time in milliseconds up to which the streams without an id have been read; None:
    unknown.
    """

    def __init__(
        self, positions: Mapping[str, str] | None = None, until: int | None = None
    ) -> None:
        super().__init__(positions or {})
        self.until = until
        # The JSON member of each stream that is written out when not all are. Cached, because
        # encoding all of them for each event would dominate its cost.
        self._members = {
            name: _member(name, at)
            for name, at in self.items()
            if until is None or stream_id(at)[0] > until
        }

    def advance(self, name: str, position: str) -> None:
        """Record that this stream has been read up to this position."""
        self[name] = position
        self._members[name] = _member(name, position)

    def settle(self, began: float) -> None:
        """Record that every stream has been read up to this time, in epoch seconds by our clock."""
        self.until = int(began * 1000) - _CLOCK_SKEW_MS
        self._members = {
            name: member
            for name, member in self._members.items()
            if stream_id(self[name])[0] > self.until
        }

    def reaches(self, name: str, entry_id: str) -> bool:
        """Whether the entry has been read."""
        return name in self and stream_id(entry_id) <= stream_id(self[name])

    def starts(self, names: Iterable[str]) -> dict[str, str]:
        """Where to continue each of these streams, as far as known."""
        starts = {name: self[name] for name in names if name in self}
        if self.until is not None:
            starts = dict.fromkeys(names, f"{self.until}-{LAST_READ}") | starts
        return starts

    def __str__(self) -> str:
        """One line of ASCII without blanks, for ``Last-Event-ID``."""
        if len(self) <= MAX_POSITIONS or self.until is None:
            return json.dumps(self, separators=(",", ":"))
        return "{" + ",".join([*self._members.values(), _member(_UNTIL, f"{self.until}-0")]) + "}"

    @property
    def is_short(self) -> bool:
        """Whether it spells a few streams only."""
        return min(len(self), len(self._members)) <= MAX_POSITIONS

    @classmethod
    def parse(cls, line: str) -> Self:
        """Parse the result of `__str__`. Raises ``ValueError`` for anything else."""
        try:
            positions = json.loads(line)
        except RecursionError:
            raise ValueError("not a cursor") from None
        if not isinstance(positions, dict):
            raise ValueError("not a cursor")  # noqa: TRY004  callers expect one kind of error
        for position in positions.values():
            stream_id(position if isinstance(position, str) else "")
        until = positions.pop(_UNTIL, None)
        return cls(positions, None if until is None else stream_id(until)[0])


def _member(name: str, position: str) -> str:
    return f'"{name}":"{position}"'
