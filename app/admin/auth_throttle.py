"""How often somebody may be wrong about the token: by peer, and all together. Bounded memory."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")

WINDOW_SECONDS = 60.0

# A person who mistypes, or a job with yesterday's token, each minute.
MOST_BY_PEER = 10

# From an address that was right before: people behind a proxy share one, and ten wrong tokens of
# one of them must not shut out the others.
MOST_BY_KNOWN_PEER = 100

# Of everybody, each minute: so many peers with a wrong token are no accident.
MOST_OF_ALL = 100

# Peers that are remembered, wrong ones and right ones each; 200 bytes for each.
MOST_PEERS = 1000


@dataclass(slots=True)
class _Window:
    began: float
    count: int = 0


class AuthThrottle:
    """Counts in windows of a minute. ``clock`` is a monotonic one, in seconds.

    Above `MOST_BY_PEER`, or `MOST_BY_KNOWN_PEER` where it has been right before, a peer waits for
    the next window, also with the right token: else the answer would tell which one it is. Above
    `MOST_OF_ALL` everybody waits but those who have been right before, so that an attacker with
    many addresses does not shut the operators out.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all = _Window(clock())
        self._wrong: OrderedDict[str, _Window] = OrderedDict()
        self._right: OrderedDict[str, None] = OrderedDict()

    def wait(self, peer: str) -> float:
        """How many seconds this peer has to wait before its token is looked at; 0: none."""
        now = self._clock()
        own = self._wrong.get(peer)
        most = MOST_BY_KNOWN_PEER if peer in self._right else MOST_BY_PEER
        if own is not None and own.count >= most:
            return max(0.0, own.began + WINDOW_SECONDS - now)
        if self._all.count >= MOST_OF_ALL and peer not in self._right:
            return max(0.0, self._all.began + WINDOW_SECONDS - now)
        return 0.0

    def wrong(self, peer: str) -> None:
        """The peer has shown a wrong token."""
        now = self._clock()
        own = self._wrong.pop(peer, None)
        if own is None or now >= own.began + WINDOW_SECONDS:
            own = _Window(now)
        own.count += 1
        _remember(self._wrong, peer, own)
        if now >= self._all.began + WINDOW_SECONDS:
            self._all = _Window(now)
        self._all.count += 1

    def right(self, peer: str) -> None:
        """The peer has shown the right token."""
        self._wrong.pop(peer, None)
        self._right.pop(peer, None)
        _remember(self._right, peer, None)


def _remember(peers: "OrderedDict[str, _T]", peer: str, value: _T) -> None:
    """The latest last; the earliest makes room."""
    peers[peer] = value
    if len(peers) > MOST_PEERS:
        peers.popitem(last=False)
