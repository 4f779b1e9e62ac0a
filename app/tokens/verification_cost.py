"""What the keys that are tried for one token cost, and how many of a set may be tried.

A token that names no key, or one that several keys share, is verified with each of them in turn.
All issuers share one event loop, so both the number and the estimated time are bounded.
"""

from collections import Counter
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

# How many keys are tried for one token. Names are unique at nearly all providers (RFC 7517, 4.5:
# SHOULD); a rotation that reuses a name has two keys for a while.
MOST_TRIED_OF_ONE_KID = 4
MOST_TRIED_WITHOUT_KID = 16

MAX_COST = 128
"""Of the keys that are tried for one token: about 4 ms. Sixteen usual keys cost up to 80."""

# In verifications with an RSA key of 2,048 bits and the exponent 65537: 0.03 ms. Measured.
_CURVE_COSTS = {"P-256": 3, "P-384": 14, "P-521": 28, "Ed25519": 5, "Ed448": 9}


def cost_of_curve(crv: str) -> int:
    """The cost of one verification with a key on this curve."""
    return _CURVE_COSTS[crv]


def cost_of_rsa(public: RSAPublicNumbers) -> int:
    """The cost of one verification: a multiplication for each bit of the exponent and one more for
    each that is set, which takes four times as long for twice the bits."""
    multiplications = public.e.bit_length() + public.e.bit_count()
    return max(1, round((public.n.bit_length() / 2048) ** 2 * multiplications / 19))


class TriedKeys:
    """Counts the keys of one set by name and algorithm. ``None`` is the name of those without."""

    def __init__(self) -> None:
        self._keys: Counter[tuple[str | None, str]] = Counter()
        self._costs: Counter[tuple[str | None, str]] = Counter()

    def have_room(self, kid: str | None, algorithms: Iterable[str], cost: int = 0) -> bool:
        """Whether a further key of this name may be tried. Asked before the key is parsed, too."""
        most = MOST_TRIED_WITHOUT_KID if kid is None else MOST_TRIED_OF_ONE_KID
        return all(
            self._keys[kid, alg] < most and self._costs[kid, alg] + cost <= MAX_COST
            for alg in algorithms
        )

    def take(self, kid: str | None, algorithms: Iterable[str], cost: int) -> bool:
        """Count a key for each of its algorithms, if there is room."""
        if not self.have_room(kid, algorithms, cost):
            return False
        for alg in algorithms:
            self._keys[kid, alg] += 1
            self._costs[kid, alg] += cost
        return True
