"""Limits how many fetches tokens with unknown keys cost the issuer's key server.

Anybody can write such a token, so fetches that bring nothing are few. A fetch which brings a key
that then verifies a token is given back: a provider may change its keys as often as it likes, and
a stranger gains one fetch for each new key that the provider signs with, none that the provider's
own tokens would not have cost.
"""

from collections.abc import Callable

from app.rate_limit import TokenBucket
from app.tokens.jwks import KeySet

# Three at once, then one in thirty seconds.
BUDGET_BURST = 3
BUDGET_INTERVAL = 30.0


def fetch_budget(monotonic: Callable[[], float]) -> TokenBucket:
    """The budget of one issuer, which counts failed fetches too."""
    return TokenBucket(BUDGET_BURST, 1 / BUDGET_INTERVAL, monotonic)


class Charge:
    """One fetch that was taken from a budget."""

    def __init__(self, budget: TokenBucket) -> None:
        self._budget: TokenBucket | None = budget

    def give_back(self) -> None:
        """Return the fetch to the budget; only the first call counts."""
        if self._budget is not None:
            self._budget.give_back()
            self._budget = None

    def await_proof(self, new: KeySet, known: KeySet | None) -> None:
        """Give the fetch back when a key that is in ``new`` and not in ``known`` verifies a
        token."""
        before = known.keys if known is not None else ()
        brought = [key for key in new.keys if key not in before]
        new.unused.extend((key, self.give_back) for key in brought)
