"""Limits the requests of each user and each caller, and of those that are not identified yet.

Every request calls the provider's API, whose own limits count for all users together. Each process
counts for itself.
"""

from app.rate_limit import TokenBucket, TokenBuckets
from app.web.errors import ApiError

# A page that is opened, polled each second while a session ends, and reloaded.
USER_BURST, USER_RATE = 60, 2.0

# One request ends a hundred sessions, and clicks are slower than that.
END_BURST, END_RATE = 20, 0.2

# An app with many users. Auth0's Management API allows a large tenant 50 per second.
CALLER_BURST, CALLER_RATE = 500, 50.0

# Anyone can send a credential of Kratos, and each costs a call to it. A peer's limit counts only
# those without a user within the limits above: the peer may be a proxy in front of many users.
PEER_BURST, PEER_RATE = 100, 10.0
ALL_PEERS_BURST, ALL_PEERS_RATE = 500, 50.0

MAX_KEYS = 10_000


class RequestLimits:
    def __init__(self) -> None:
        def buckets(burst: float, rate: float) -> TokenBuckets:
            return TokenBuckets(burst, rate, max_keys=MAX_KEYS)

        self._by_user = buckets(USER_BURST, USER_RATE)
        self._by_caller = buckets(CALLER_BURST, CALLER_RATE)
        self._terminations = buckets(END_BURST, END_RATE)
        self._by_peer = buckets(PEER_BURST, PEER_RATE)
        self._all_peers = TokenBucket(ALL_PEERS_BURST, ALL_PEERS_RATE)

    def count_identification(self, peer: str) -> None:
        """Count a call that identifies a user. Raises `ApiError` (429)."""
        _take(self._by_peer[peer])
        _take(self._all_peers)

    def give_back_identification(self, peer: str) -> None:
        """The peer sent the credential of a user within the limits."""
        self._by_peer[peer].give_back()

    def count_request(self, caller: str, user: tuple[str, str]) -> None:
        """Raises `ApiError` (429) when the user or the caller has none left."""
        _take(self._by_user[user])
        _take(self._by_caller[caller])

    def count_termination(self, user: tuple[str, str]) -> None:
        """Count a request that ends sessions, in addition. Raises `ApiError` (429)."""
        _take(self._terminations[user])


def _take(bucket: TokenBucket) -> None:
    if not bucket.take():
        raise ApiError(
            429, "too_many_requests", "too many requests; wait", retry_after=bucket.wait_seconds
        )
