"""What a listener has in hand: what comes next, and what waits to be tried again. Pure."""

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass

from backchannel_logout.contract.event import Event, MalformedEvent, UnknownEvent
from backchannel_logout.contract.gap import Gap, GapReason

# Each pause is so many times the one before: with five tries from one second, 85 seconds in
# all, enough for a restart of what a handler depends on.
_LONGER = 4
_LONGEST_PAUSE = 300.0

# After so many tries the pause grows no more: a gap is tried for ever, and a float ends at 4^512.
_GROWS = 20

# Where so many wait to be tried again, nearly everything fails: the rest is safer in Redis.
MOST_WAITING = 1000


@dataclass(slots=True, eq=False)
class Delivery:
    """An item on its way to the app.

    ``acks`` are the ids of the entries that it speaks for; ``fields`` are the raw ones of its
    entry, names and values in turn. ``tries`` have begun, with the present one. ``note`` is the
    field of a gap in Redis. ``again``: it was delivered before, perhaps to a process that died
    of it.
    """

    item: Event | Gap
    acks: tuple[str, ...] = ()
    fields: tuple[bytes, ...] = ()
    tries: int = 1
    again: bool = False
    note: bytes | None = None
    error: str = ""
    settled: bool = False

    @classmethod
    def of_entry(cls, entry_id: str, fields: list[bytes], **more: int | bool) -> "Delivery":
        """The entry of the stream: its event, or a gap where it can not be read."""
        pairs = dict(zip(fields[::2], fields[1::2], strict=False))
        item: Event | Gap
        error = ""
        try:
            item = Event.from_fields(pairs, entry_id)  # type: ignore[arg-type]
        except (UnknownEvent, MalformedEvent) as fault:
            item, error = Gap(GapReason.UNKNOWN, entry_id), type(fault).__name__
        return cls(item, (entry_id,), tuple(fields), error=error, **more)  # type: ignore[arg-type]

    @property
    def unreadable(self) -> bool:
        """Whether it is an entry that has become a gap."""
        return bool(self.fields) and isinstance(self.item, Gap)


class Deliveries:
    """What comes next: gaps, then what is to be tried again and due, then what is fresh.

    Times are seconds of one clock that never goes back.
    """

    def __init__(self, retry_after: float) -> None:
        self.gaps: deque[Delivery] = deque()
        self.fresh: deque[Delivery] = deque()
        self._retry_after = retry_after
        self._waiting: list[tuple[float, int, Delivery]] = []
        self._number = itertools.count()

    def wait(self, delivery: Delivery, now: float) -> None:
        """Try it again after a pause that grows with each try, and differs a little."""
        longer = float(_LONGER) ** min(delivery.tries - 1, _GROWS)
        pause = min(_LONGEST_PAUSE, self._retry_after * longer)
        due = now + pause * random.uniform(0.9, 1.1)  # noqa: S311  # only spreads load
        heapq.heappush(self._waiting, (due, next(self._number), delivery))

    def due(self, now: float) -> Delivery | None:
        """One whose pause is over; it stays until `begin`."""
        return self._waiting[0][2] if self._waiting and self._waiting[0][0] <= now else None

    def begin(self) -> None:
        """Take what `due` returned."""
        heapq.heappop(self._waiting)

    def patience(self, now: float, most: float) -> float:
        """For how long nothing is due, in seconds, up to ``most``."""
        return min(most, max(0.0, self._waiting[0][0] - now)) if self._waiting else most

    @property
    def full(self) -> bool:
        """Whether no more is to be read until some of these have been settled."""
        return len(self._waiting) >= MOST_WAITING
