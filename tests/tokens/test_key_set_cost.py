"""The cost of one token is bounded, whatever its issuer publishes. Counts verifications."""

import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm

from app.errors import DependencyUnavailable, TokenRefused
from app.tokens.jwks import (
    MAX_ENTRIES,
    MAX_KEYS,
    KeyMatch,
    KeySet,
    NotAKeySet,
    read_key_set,
)
from app.tokens.verification_cost import (
    MAX_COST,
    MAX_TRIED_OF_ONE_KID,
    MAX_TRIED_WITHOUT_KID,
)
from tests.support.providers.provider import ABSENT, Provider, private_key, public_jwk
from tests.tokens.conftest import NewKeys, verify

Verifications = list[type]


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> Verifications:
    """The kind of algorithm of each verification of the library."""
    done: Verifications = []

    def counted(verifies: Callable[..., bool]) -> Callable[..., bool]:
        def count(algorithm: Any, *rest: Any) -> bool:
            done.append(type(algorithm))
            return verifies(algorithm, *rest)

        return count

    for kind in (RSAAlgorithm, RSAPSSAlgorithm, ECAlgorithm, OKPAlgorithm):
        monkeypatch.setattr(kind, "verify", counted(kind.verify))
    return done


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The entries that the library parsed."""
    done: list[object] = []
    from_jwk = ECAlgorithm.from_jwk

    def counted(entry: Any) -> Any:
        done.append(entry)
        return from_jwk(entry)

    monkeypatch.setattr(ECAlgorithm, "from_jwk", staticmethod(counted))
    return done


def key_set(*entries: dict[str, Any]) -> KeySet:
    return read_key_set(json.dumps({"keys": entries}).encode())


def new_keys_of(kid: str | None, how_many: int) -> list[dict[str, Any]]:
    """This many different keys of one name."""
    return [
        public_jwk(ec.generate_private_key(ec.SECP256R1()), kid, alg="ES256")
        for _ in range(how_many)
    ]


def rsa_jwk(modulus: int, exponent: int, kid: str = "k") -> dict[str, Any]:
    n, e = (jwt.utils.to_base64url_uint(number).decode() for number in (modulus, exponent))
    return {"kty": "RSA", "use": "sig", "kid": kid, "n": n, "e": e}


def modulus(bits: int) -> int:
    return (1 << (bits - 1)) | 1


@pytest.mark.parametrize(
    ("kid", "tried"), [("same", MAX_TRIED_OF_ONE_KID), (None, MAX_TRIED_WITHOUT_KID)]
)
def test_only_a_few_keys_of_one_name_are_tried(
    kid: str | None, tried: int, verifications: Verifications
) -> None:
    """The others are skipped, and `check` counts them."""
    keys = key_set(*new_keys_of(kid, MAX_KEYS))
    assert (len(keys.keys), keys.skipped) == (tried, MAX_KEYS - tried)
    assert keys.verify("ES256", kid, b"input", b"x" * 64) in {KeyMatch.WRONG, KeyMatch.NO_KEY}
    assert len(verifications) == tried


def test_only_a_few_keys_are_tried_for_a_token_without_a_kid(
    verifications: Verifications,
) -> None:
    """All of them are available to tokens that name one."""
    entries = [key for n in range(MAX_KEYS) for key in new_keys_of(f"k{n}", 1)]
    keys = key_set(*entries)
    assert (len(keys.keys), keys.skipped) == (MAX_KEYS, 0)
    assert keys.verify("ES256", None, b"input", b"x" * 64) is KeyMatch.NO_KEY
    assert len(verifications) == MAX_TRIED_WITHOUT_KID
    assert keys.verify("ES256", f"k{MAX_KEYS - 1}", b"input", b"x" * 64) is KeyMatch.WRONG
    assert len(verifications) == MAX_TRIED_WITHOUT_KID + 1


def test_keys_without_a_kid_are_tried_before_those_with_one(
    verifications: Verifications,
) -> None:
    """A token without a kid comes from a provider whose keys have none."""
    own = ec.generate_private_key(ec.SECP256R1())
    others = [key for n in range(40) for key in new_keys_of(f"k{n}", 1)]
    keys = key_set(*others, public_jwk(own, None))
    signature = ECAlgorithm(ECAlgorithm.SHA256).sign(b"input", own)
    assert keys.verify("ES256", None, b"input", signature) is KeyMatch.VERIFIED
    assert len(verifications) == 1


def test_keys_for_other_algorithms_take_no_place(verifications: Verifications) -> None:
    """Some providers use one name for keys of each type."""
    rsa = public_jwk(private_key("RS256"), "same", alg="RS256")
    keys = key_set(*new_keys_of("same", MAX_TRIED_OF_ONE_KID), rsa)
    assert keys.skipped == 0
    assert keys.verify("RS256", "same", b"input", b"x" * 256) is KeyMatch.WRONG
    assert verifications == [RSAAlgorithm]


@pytest.mark.parametrize(
    ("bits", "exponent", "taken"),
    [
        (2047, 65537, False),
        (2048, 65537, True),
        (8192, 65537, True),
        (8193, 65537, False),
        (16384, 65537, False),
        (2048, 3, True),
        (2048, 2**32 - 1, True),
        (2048, 2**32 + 1, False),
        (3072, modulus(3072) - 2, False),
    ],
)
def test_an_rsa_key_that_is_too_weak_or_too_slow_is_skipped(
    bits: int, exponent: int, taken: bool
) -> None:
    entry = rsa_jwk(modulus(bits), exponent)
    beside = public_jwk(private_key("ES256"), "good")
    assert len(key_set(entry, beside).keys) == 1 + taken
    if not taken:
        with pytest.raises(NotAKeySet):
            key_set(entry)


@pytest.mark.parametrize(
    ("kid", "tried"), [("same", MAX_TRIED_OF_ONE_KID), (None, MAX_TRIED_WITHOUT_KID)]
)
def test_a_key_that_would_not_be_tried_is_not_parsed(
    kid: str | None, tried: int, parsed: list[object]
) -> None:
    """Parsing thousands would block the event loop for a tenth of a second."""
    keys = key_set(*new_keys_of(kid, 1) * 4000)
    assert len(parsed) == len(keys.keys) == tried
    assert keys.skipped == 4000 - tried


def test_keys_that_cannot_be_read_are_not_all_parsed(parsed: list[object]) -> None:
    """Only arithmetic detects a point that is not on the curve."""
    (entry,) = new_keys_of(None, 1)
    with pytest.raises(NotAKeySet):
        key_set(*[{**entry, "x": entry["y"]}] * 4000)
    assert len(parsed) == MAX_ENTRIES


@pytest.mark.parametrize("kid", [None, "same"])
@pytest.mark.parametrize(
    ("name", "cost"), [("e is long", 54), ("8192 bits", 16), ("P-521", 28), ("P-384", 14)]
)
def test_the_time_of_tried_keys_is_bounded_too(
    name: str, cost: int, kid: str | None, verifications: Verifications
) -> None:
    """Even for keys with different names and a token without a kid."""
    most = MAX_TRIED_WITHOUT_KID if kid is None else MAX_TRIED_OF_ONE_KID
    if name in {"P-521", "P-384"}:
        curve, alg = (ec.SECP521R1(), "ES512") if name == "P-521" else (ec.SECP384R1(), "ES384")
        entries = [public_jwk(ec.generate_private_key(curve), kid, alg=alg) for _ in range(20)]
    else:
        exponent = 2**32 - 1 if name == "e is long" else 65537
        entry = {**rsa_jwk(modulus(8192), exponent), "kid": kid}
        alg, entries = "RS256", [{k: v for k, v in entry.items() if v is not None}] * 20
    keys = key_set(*entries)
    assert len(keys.keys) == min(most, MAX_COST // cost)
    assert sum(key.cost for key in keys.keys) <= MAX_COST
    for key in keys.keys:
        assert key.cost == cost
    named = key_set(*({**one, "kid": f"k{n}"} for n, one in enumerate(entries)))
    assert len(named.keys) == len(entries)
    named.verify(alg, None, b"input", b"x" * 64)
    assert len(verifications) == min(MAX_TRIED_WITHOUT_KID, MAX_COST // cost)


@pytest.mark.parametrize(
    ("kid", "most"), [("same", MAX_TRIED_OF_ONE_KID), (ABSENT, MAX_TRIED_WITHOUT_KID)]
)
async def test_a_forged_token_costs_no_more_than_these_verifications(
    kid: Any, most: int, provider: Provider, new_keys: NewKeys, verifications: Verifications
) -> None:
    """With the fetch budget used up, as in a flood, and a deliberately slow key set."""
    provider.alg, provider.keys = "ES256", {"own": private_key("ES256")}
    slow = [rsa_jwk(modulus(3072), modulus(3072) - 2, "same") for _ in range(MAX_KEYS)]
    provider.extra_jwks = [*slow, *new_keys_of("same" if kid == "same" else None, MAX_KEYS)]
    keys = new_keys(provider, 'algorithms = ["RS256", "ES256"]')
    await keys.refresh()
    forged = provider.token(header={"kid": kid}, key=private_key("ES256", 9))
    for _ in range(4):
        with pytest.raises((TokenRefused, DependencyUnavailable)):
            await verify(keys, forged)
    verifications.clear()
    with pytest.raises((TokenRefused, DependencyUnavailable)):
        await verify(keys, forged)
    assert verifications == [ECAlgorithm] * most
