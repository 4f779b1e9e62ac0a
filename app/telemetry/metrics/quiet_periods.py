"""For how long a provider is usually silent, and since when it is now. Pure.

Nights and weekends are silent, so that no fixed time fits: compared is with the longest gap between
two logouts in the last seven days, which a week's weekend is always in.
"""

DAY = 86400
DAYS = 7


class QuietPeriods:
    """Of one issuer. Times are epoch seconds."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._gaps: dict[int, float] = {}
        """The longest gap that ended on each day."""
        self.last: float | None = None
        """When it was heard last."""

    def heard(self, at: float) -> None:
        """A logout has come; one that is told late changes nothing."""
        if self._first is None or self.last is None:
            self._first = self.last = at
            return
        if at <= self.last:
            return
        day = int(at // DAY)
        self._gaps[day] = max(self._gaps.get(day, 0.0), at - self.last)
        self.last = at
        for old in [one for one in self._gaps if one < day - DAYS]:
            del self._gaps[old]

    def longest_gap(self, now: float) -> float | None:
        """In seconds; None until a day is known: after a morning every noon is a long gap."""
        if self._first is None or now - self._first < DAY or not self._gaps:
            return None
        return max(self._gaps.values())
