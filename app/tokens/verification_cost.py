"""Limits how many keys of a set are tried for one token, and their estimated cost.

A token without a ``kid``, or with one that several keys share, is verified with each of them in
turn. All issuers share one event loop, so both number and time are bounded.
"""

from collections import Counter
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

# Keys tried for one token. Names are unique at nearly all providers (RFC 7517, 4.5: SHOULD); a
# rotation that reuses a name has two keys for a while.
MAX_TRIED_OF_ONE_KID = 4
MAX_TRIED_WITHOUT_KID = 16

MAX_COST = 128
"""Of all keys tried for one token: about 4 ms. Sixteen usual keys cost up to 80."""

# Measured in units of one RSA verification with 2,048 bits and exponent 65537: 0.03 ms.
_CURVE_COSTS = {"P-256": 3, "P-384": 14, "P-521": 28, "Ed25519": 5, "Ed448": 9}


def cost_of_curve(crv: str) -> int:
    """The cost of one verification with a key on this curve."""
    return _CURVE_COSTS[crv]


def cost_of_rsa(public: RSAPublicNumbers) -> int:
    """The cost of one verification: a multiplication for each bit of the exponent, and another for
    each bit that is set. Doubling the key's bits quadruples a multiplication."""
    multiplications = public.e.bit_length() + public.e.bit_count()
    return max(1, round((public.n.bit_length() / 2048) ** 2 * multiplications / 19))


class TriedKeys:
    """Counts the keys of one set by name and algorithm; None stands for no name."""

    def __init__(self) -> None:
        self._keys: Counter[tuple[str | None, str]] = Counter()
        self._costs: Counter[tuple[str | None, str]] = Counter()

    def have_room(self, kid: str | None, algorithms: Iterable[str], cost: int = 0) -> bool:
        """Whether another key of this name may be tried. Also checked before a key is parsed."""
        max_keys = MAX_TRIED_WITHOUT_KID if kid is None else MAX_TRIED_OF_ONE_KID
        return all(
            self._keys[kid, alg] < max_keys and self._costs[kid, alg] + cost <= MAX_COST
            for alg in algorithms
        )

    def take(self, kid: str | None, algorithms: Iterable[str], cost: int) -> bool:
        """Count a key for each of its algorithms, if there is room. Returns whether there is."""
        if not self.have_room(kid, algorithms, cost):
            return False
        for alg in algorithms:
            self._keys[kid, alg] += 1
            self._costs[kid, alg] += cost
        return True
