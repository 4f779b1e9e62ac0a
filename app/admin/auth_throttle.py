"""Throttles failed token attempts, per peer and overall, in bounded memory."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")

WINDOW_SECONDS = 60.0

# A person who mistypes, or a job with an old token, per minute.
MAX_PER_PEER = 10

# For an address that succeeded before: people behind a proxy share one, and ten wrong tokens of one
# of them must not lock out the others.
MAX_PER_KNOWN_PEER = 100

# Over all peers, per minute: so many wrong tokens are an attack.
MAX_OVERALL = 100

# Peers that are remembered, failed and successful ones each; 200 bytes per peer.
MAX_PEERS = 1000


@dataclass(slots=True)
class _Window:
    began: float
    count: int = 0


class AuthThrottle:
    """Counts failures in windows of a minute. ``clock`` is monotonic, in seconds.

    Above `MAX_PER_PEER` (or `MAX_PER_KNOWN_PEER` after a success) a peer waits for the next window,
    even with the right token: otherwise the answer would reveal which one is right. Above
    `MAX_OVERALL` everybody waits except for peers that succeeded before, so that an attacker with
    many addresses does not lock the operators out.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all = _Window(clock())
        self._failed: OrderedDict[str, _Window] = OrderedDict()
        self._succeeded: OrderedDict[str, None] = OrderedDict()

    def wait(self, peer: str) -> float:
        """Seconds until this peer's token is checked again; 0: at once."""
        now = self._clock()
        own = self._failed.get(peer)
        known = peer in self._succeeded
        if own is not None and own.count >= (MAX_PER_KNOWN_PEER if known else MAX_PER_PEER):
            return max(0.0, own.began + WINDOW_SECONDS - now)
        if self._all.count >= MAX_OVERALL and not known:
            return max(0.0, self._all.began + WINDOW_SECONDS - now)
        return 0.0

    def failed(self, peer: str) -> None:
        """The peer sent a wrong token."""
        now = self._clock()
        own = self._failed.pop(peer, None)
        if own is None or now >= own.began + WINDOW_SECONDS:
            own = _Window(now)
        own.count += 1
        _remember(self._failed, peer, own)
        if now >= self._all.began + WINDOW_SECONDS:
            self._all = _Window(now)
        self._all.count += 1

    def succeeded(self, peer: str) -> None:
        """The peer sent the right token."""
        self._failed.pop(peer, None)
        self._succeeded.pop(peer, None)
        _remember(self._succeeded, peer, None)


def _remember(peers: "OrderedDict[str, _T]", peer: str, value: _T) -> None:
    """Append the peer, and forget the earliest beyond `MAX_PEERS`."""
    peers[peer] = value
    if len(peers) > MAX_PEERS:
        peers.popitem(last=False)
