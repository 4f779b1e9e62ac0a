"""The parked tokens of one issuer, in the order of arrival.

Room is made by dropping a random one. Before the keys arrive, a forgery looks like a genuine token,
so no order is safe: if the oldest keep their places, a flood can hold them all; if the newest do,
the next few displace all others. With a random choice, a genuine token's chance depends only on the
flood that comes *after* it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import SystemRandom


@dataclass(slots=True, eq=False)
class ParkedToken:
    """When a token arrived, in epoch seconds, and with which request."""

    arrived_at: float
    request_id: str
    place: int = field(default=0, init=False)
    """Index in the list for random choices."""


# Memory of an entry besides the token's own bytes: object headers, the time, the request's id, a
# slot in the dict and one in the list.
ENTRY_BYTES = 448


_randrange = SystemRandom().randrange  # not predictable for attackers


class ParkedTokens:
    """``randrange`` returns a random number below its argument."""

    def __init__(self, randrange: Callable[[int], int] = _randrange) -> None:
        self._randrange = randrange
        self._parked: dict[bytes, ParkedToken] = {}
        """Keyed by the token's bytes; the parsed form would be larger."""
        self._places: list[bytes] = []
        self.bytes = 0
        self.held: bytes | None = None
        """A token that is being retried, and never drawn."""

    def __len__(self) -> int:
        return len(self._parked)

    def __contains__(self, token: bytes) -> bool:
        return token in self._parked

    def __iter__(self) -> Iterator[bytes]:
        """A snapshot: tokens may come and go meanwhile."""
        return iter(list(self._parked))

    def __getitem__(self, token: bytes) -> ParkedToken:
        return self._parked[token]

    def oldest(self) -> tuple[bytes, ParkedToken] | None:
        return next(iter(self._parked.items()), None)

    def add(self, token: bytes, parked: ParkedToken) -> None:
        parked.place = len(self._places)
        self._places.append(token)
        self._parked[token] = parked
        self.bytes += len(token) + ENTRY_BYTES

    def remove(self, token: bytes) -> ParkedToken:
        parked, last = self._parked.pop(token), self._places.pop()
        if parked.place < len(self._places):  # move the last one to the freed slot
            self._places[parked.place] = last
            self._parked[last].place = parked.place
        self.bytes -= len(token) + ENTRY_BYTES
        return parked

    def draw(self) -> bytes | None:
        """A random one other than the held one; None if there is none."""
        places = self._places
        if not places or places == [self.held]:
            return None
        at = self._randrange(len(places))
        return places[at] if places[at] != self.held else places[at - 1]
