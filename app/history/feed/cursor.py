"""How far the streams of a feed have been read, as one line that a client can come back with. Pure.

Up to `MAX_POSITIONS` streams it holds the last id of each. With more, an id for each would not fit
into a header, so it holds the ids of those that had something lately, and a time before which
everything of all streams has been handed out.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Self

from backchannel_logout.contract.event import stream_id

REFUSALS = "!refusals"
"""The name of the refusals in a cursor: no app can have it."""

_UNTIL = "!until"
MAX_POSITIONS = 32

# The highest numbers within a millisecond: no entry has them, but a time that somebody begins from,
# and one up to which everything was read.
LAST = 2**64 - 1
LAST_READ = LAST - 1

# Redis' clock and ours may differ by as much before an entry is left out.
_CLOCK_SKEW_MS = 60_000


def just_before(ms: int) -> str:
    """The position behind which every entry of this millisecond is."""
    return f"{max(0, ms - 1)}-{LAST}"


class Cursor(dict[str, str]):
    """The last id of each stream, by the app's name, or `REFUSALS`.

    ``until`` is a time in milliseconds: everything of the streams that are not spelled has been
    read up to then; None: nothing is known of them.
    """

    def __init__(
        self, positions: Mapping[str, str] | None = None, until: int | None = None
    ) -> None:
        super().__init__(positions or {})
        self.until = until
        # Those that are spelled where not all are, each as JSON: to spell all of them anew for each
        # event takes longer than everything else about it.
        self._spelled = {
            name: _member(name, at)
            for name, at in self.items()
            if until is None or stream_id(at)[0] > until
        }

    def advance(self, name: str, position: str) -> None:
        """Note that this stream has been read as far as that."""
        self[name] = position
        self._spelled[name] = _member(name, position)

    def settle(self, began: float) -> None:
        """Note that everything that was there at this time, in epoch seconds by our clock, has been
        read in every stream."""
        self.until = int(began * 1000) - _CLOCK_SKEW_MS
        self._spelled = {
            name: member
            for name, member in self._spelled.items()
            if stream_id(self[name])[0] > self.until
        }

    def reaches(self, name: str, entry_id: str) -> bool:
        """Whether the entry is not after it."""
        return name in self and stream_id(entry_id) <= stream_id(self[name])

    def begins(self, names: Iterable[str]) -> dict[str, str]:
        """Where each of these streams goes on, as far as is known."""
        found = {name: self[name] for name in names if name in self}
        if self.until is not None:
            found = dict.fromkeys(names, f"{self.until}-{LAST_READ}") | found
        return found

    def __str__(self) -> str:
        """One line of ASCII without blanks, for a ``Last-Event-ID``."""
        if len(self) <= MAX_POSITIONS or self.until is None:
            return json.dumps(self, separators=(",", ":"))
        return "{" + ",".join([*self._spelled.values(), _member(_UNTIL, f"{self.until}-0")]) + "}"

    @property
    def is_short(self) -> bool:
        """Whether it spells a few streams only."""
        return min(len(self), len(self._spelled)) <= MAX_POSITIONS

    @classmethod
    def parse(cls, line: str) -> Self:
        """What `__str__` gave. Raises ``ValueError`` for anything else."""
        try:
            found = json.loads(line)
        except RecursionError:
            raise ValueError("not a cursor") from None
        if not isinstance(found, dict):
            raise ValueError("not a cursor")  # noqa: TRY004  callers expect one kind of error
        for position in found.values():
            stream_id(position if isinstance(position, str) else "")
        until = found.pop(_UNTIL, None)
        return cls(found, None if until is None else stream_id(until)[0])


def _member(name: str, position: str) -> str:
    return f'"{name}":"{position}"'
