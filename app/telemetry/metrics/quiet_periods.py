"""How long a provider usually sends nothing, and since when it has. Pure.

Nights and weekends are quiet, so no fixed limit fits. The current pause is compared with the
longest gap between two logouts in the last seven days, which always include a weekend.
"""

DAY = 86400
DAYS = 7


class QuietPeriods:
    """The pauses of one issuer. Times are epoch seconds."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._gaps: dict[int, float] = {}
        """The longest gap that ended on each day."""
        self.last: float | None = None
        """The time of the last logout."""

    def add(self, at: float) -> None:
        """Record a logout; one that is older than the last changes nothing."""
        if self._first is None or self.last is None:
            self._first = self.last = at
            return
        if at <= self.last:
            return
        day = int(at // DAY)
        self._gaps[day] = max(self._gaps.get(day, 0.0), at - self.last)
        self.last = at
        for old in [ended for ended in self._gaps if ended < day - DAYS]:
            del self._gaps[old]

    def longest_gap(self, now: float) -> float | None:
        """In seconds; None for less than a day of data, in which each lunch break is long."""
        if self._first is None or now - self._first < DAY or not self._gaps:
            return None
        return max(self._gaps.values())
