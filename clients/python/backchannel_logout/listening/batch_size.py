"""How many events a replica of a group reads at once. Pure, except for the clock."""

import time

_FIRST = 16
_MAX = 256
_QUICK_SECONDS = 0.1
_SLOW_SECONDS = 1.0


class BatchSize:
    """Begins small and grows while batches are processed quickly, so that slow handlers do not hold
    events that another replica could handle."""

    def __init__(self) -> None:
        self.current = _FIRST
        self._read_at = time.monotonic()

    def adapt(self) -> int:
        """The size of the next batch, by how long the last one took."""
        took = time.monotonic() - self._read_at
        if took > _SLOW_SECONDS:
            self.current = max(1, self.current // 2)
        elif took < _QUICK_SECONDS:
            self.current = min(_MAX, self.current * 2)
        return self.current

    def has_read(self) -> None:
        """A batch was just read."""
        self._read_at = time.monotonic()
