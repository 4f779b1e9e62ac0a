"""Whose turn it is to be read: some apps at a time, and those with news again. Pure."""

import math
from collections import deque
from collections.abc import Iterable
from itertools import islice

# Of a small fleet all apps have their turn at once; of a large one within this many turns, which
# is 80 seconds: shorter than the alert on old readings waits.
_MIN_TURN = 100
_TURNS = 16

# Apps with news that have the next turn as well.
_AGAIN = 100


class Turns:
    """``rounds``: after how many turns every app has had one."""

    def __init__(self, apps: Iterable[str]) -> None:
        self._apps = deque(apps)
        self._size = max(_MIN_TURN, math.ceil(len(self._apps) / _TURNS))
        self._news: dict[str, None] = {}
        self.rounds = math.ceil(len(self._apps) / self._size)

    def add_news(self, app: str) -> None:
        """The app had new events or receipts: it is likely to have more."""
        self._news[app] = None

    def next(self) -> list[str]:
        """The apps whose turn it is."""
        chosen = dict.fromkeys(islice(self._news, _AGAIN))
        self._news.clear()
        chosen |= dict.fromkeys(islice(self._apps, self._size))
        self._apps.rotate(-self._size)
        return list(chosen)
