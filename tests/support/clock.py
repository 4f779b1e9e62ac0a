"""A clock that a test sets."""


class Clock:
    """Returns ``now``, which a test changes. Works as wall clock and as monotonic clock."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
