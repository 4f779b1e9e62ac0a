"""How many fetches tokens with unknown keys may cost the issuer's key server.

Anybody can write such a token, so fetches that help nobody are few: three at once, then one in
thirty seconds. A fetch which brings a key that then verifies a token was worth it, and is given
back: a provider may change its keys as often as it likes. A stranger gains one fetch for each new
key that the provider signs with, and none that the provider's own tokens would not have cost.
"""

from collections.abc import Callable

from app.tokens.jwks import KeySet

BUDGET_BURST = 3
BUDGET_INTERVAL = 30.0


class Charge:
    """One fetch that was taken from a budget."""

    def __init__(self, budget: "FetchBudget") -> None:
        self._budget: FetchBudget | None = budget

    def give_back(self) -> None:
        """Do it once, however often it is asked for."""
        if self._budget is not None:
            self._budget.give_back()
            self._budget = None

    def await_proof(self, new: KeySet, known: KeySet | None) -> None:
        """Give the fetch back when a key that ``new`` has, and ``known`` has not, verifies a
        token."""
        before = known.keys if known is not None else ()
        brought = [key for key in new.keys if key not in before]
        new.unproved.extend((key, self.give_back) for key in brought)


class FetchBudget:
    """Counts attempts, also failed ones. ``monotonic`` measures time."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._left = float(BUDGET_BURST)
        self._at = monotonic()

    def take(self) -> Charge | None:
        """Take one fetch; None where none is left."""
        now = self._monotonic()
        self._left = min(BUDGET_BURST, self._left + (now - self._at) / BUDGET_INTERVAL)
        self._at = now
        if self._left < 1:
            return None
        self._left -= 1
        return Charge(self)

    def give_back(self) -> None:
        self._left = min(BUDGET_BURST, self._left + 1)
