"""The tokens of one issuer that wait for a key, in the order of their arrival.

One of them can be drawn at random, to make room. Nobody can tell a forgery from an honest token
before the keys come, so no order is safe: where the first keep their places a flood can hold them
all, and where the last do, the next few push everybody else out. Drawn at random, an honest token
stays with the chance that the flood *after* it leaves.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import SystemRandom


@dataclass(slots=True, eq=False)
class Parked:
    """A token that waits: since when, in epoch seconds, and by which request it came."""

    arrived_at: float
    request_id: str
    place: int = field(default=0, init=False)
    """In the list that is drawn from."""


# What an entry takes beside the token's own bytes: object heads, the time, the request's id, a
# place in the table and one in the list.
ENTRY_BYTES = 448


_randrange = SystemRandom().randrange  # a stranger must not be able to foresee it


class ParkedTokens:
    """``randrange`` draws a number below the one that it is given."""

    def __init__(self, randrange: Callable[[int], int] = _randrange) -> None:
        self._randrange = randrange
        self._parked: dict[bytes, Parked] = {}
        """Only the bytes of each token: what was parsed is larger."""
        self._places: list[bytes] = []
        self.bytes = 0
        self.held: bytes | None = None
        """A token that is never drawn, for it is being settled."""

    def __len__(self) -> int:
        return len(self._parked)

    def __contains__(self, token: bytes) -> bool:
        return token in self._parked

    def __iter__(self) -> Iterator[bytes]:
        """The tokens of this moment; others may come and go meanwhile."""
        return iter(list(self._parked))

    def __getitem__(self, token: bytes) -> Parked:
        return self._parked[token]

    def oldest(self) -> tuple[bytes, Parked] | None:
        return next(iter(self._parked.items()), None)

    def add(self, token: bytes, parked: Parked) -> None:
        parked.place = len(self._places)
        self._places.append(token)
        self._parked[token] = parked
        self.bytes += len(token) + ENTRY_BYTES

    def remove(self, token: bytes) -> Parked:
        parked, last = self._parked.pop(token), self._places.pop()
        if parked.place < len(self._places):  # the last one moves to the place that is free now
            self._places[parked.place] = last
            self._parked[last].place = parked.place
        self.bytes -= len(token) + ENTRY_BYTES
        return parked

    def draw(self) -> bytes | None:
        """One of them at random, but for the one that is held; None where there is no other."""
        places = self._places
        if not places or places == [self.held]:
            return None
        at = self._randrange(len(places))
        return places[at] if places[at] != self.held else places[at - 1]
