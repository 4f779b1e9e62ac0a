"""The deliveries in progress of a listener: what is next, and what waits for a retry. Pure."""

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass

from backchannel_logout.contract.event import Event, MalformedEvent, UnknownEvent
from backchannel_logout.contract.gap import Gap, GapReason

# The growth of the pause per try: five tries from one second on take 85 seconds in all, enough for
# a restart of what a handler depends on.
_BACKOFF = 4
_MAX_PAUSE = 300.0

# The pause stops growing after this many tries: a gap is retried forever, and a float ends at
# 4^512.
_MAX_GROWTHS = 20

# With this many retries pending nearly everything fails, and the rest is safer in Redis.
MAX_RETRIES = 1000


@dataclass(slots=True, eq=False)
class Delivery:
    """An item on its way to the app.

    ``acks`` are the ids of the entries that it acknowledges; ``fields`` are the raw names and
    values of its entry. ``tries`` counts the started ones, with the current one. ``note`` is the
    field of a gap in Redis. ``again``: it was delivered before, perhaps to a process that died of
    it.
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
        """An entry of the stream: its event, or a gap if it cannot be read."""
        item: Event | Gap
        error = ""
        try:
            item = Event.from_reply(fields, entry_id)
        except (UnknownEvent, MalformedEvent) as fault:
            item, error = Gap(GapReason.UNKNOWN, entry_id), type(fault).__name__
        return cls(item, (entry_id,), tuple(fields), error=error, **more)  # type: ignore[arg-type]

    @property
    def unreadable(self) -> bool:
        """Whether it is an entry that became a gap."""
        return bool(self.fields) and isinstance(self.item, Gap)


class InflightDeliveries:
    """What is next: gaps, then due retries, then fresh events.

    Times are seconds of one monotonic clock.
    """

    def __init__(self, retry_after: float) -> None:
        self.gaps: deque[Delivery] = deque()
        self.fresh: deque[Delivery] = deque()
        self._retry_after = retry_after
        self._retries: list[tuple[float, int, Delivery]] = []
        self._number = itertools.count()

    def retry_later(self, delivery: Delivery, now: float) -> None:
        """Retry it after a pause that grows with each try, with some jitter."""
        growth = float(_BACKOFF) ** min(delivery.tries - 1, _MAX_GROWTHS)
        pause = min(_MAX_PAUSE, self._retry_after * growth)
        due = now + pause * random.uniform(0.9, 1.1)  # noqa: S311  only spreads load
        heapq.heappush(self._retries, (due, next(self._number), delivery))

    def due(self, now: float) -> Delivery | None:
        """The next retry whose pause is over; it stays until `remove_due`."""
        return self._retries[0][2] if self._retries and self._retries[0][0] <= now else None

    def remove_due(self) -> None:
        """Remove what `due` returned."""
        heapq.heappop(self._retries)

    def seconds_until_due(self, now: float, limit: float) -> float:
        """How long until a retry is due, at most ``limit``."""
        return min(limit, max(0.0, self._retries[0][0] - now)) if self._retries else limit

    @property
    def full(self) -> bool:
        """Whether to read no more until some retries are settled."""
        return len(self._retries) >= MAX_RETRIES
