"""Every rule of token verification, in process: real keys, a real key server, no Redis."""

import asyncio
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.config.issuers import IssuerSettings
from app.config.load import load
from app.errors import SENTENCES, Reason, TokenRefused
from app.tokens import logout_token, signed_jwt
from app.tokens.logout_token import LogoutToken
from app.tokens.provider_keys import ProviderKeys
from tests.support.providers.provider import ABSENT, EVENT, Provider, private_key, public_jwk
from tests.support.receiver import config
from tests.tokens.cases import CASES, ORDER, Build, Case
from tests.tokens.cases_encrypted import ENCRYPTED, SIGNED

# The keys come over plain HTTP here; loading all certificates would take longer than the test.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

OF_THE_REQUEST = {
    Reason.CONTENT_TYPE,
    Reason.BODY_TOO_LARGE,
    Reason.FORM,
    Reason.LOGOUT_TOKEN_MISSING,
    Reason.LOGOUT_TOKEN_REPEATED,
}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


def issuer_settings(directory: Path, provider: Provider, options: str = "") -> IssuerSettings:
    path = directory / "settings.toml"
    path.write_text(config("redis://127.0.0.1", f'issuer = "{provider.issuer}"\n{options}'))
    return load(path, {}).issuers[0]


async def verify(token: str, issuer: IssuerSettings) -> LogoutToken:
    """Every step of a token, without HTTP and Redis."""
    async with httpx.AsyncClient(verify=NO_TLS) as client:
        keys = ProviderKeys(issuer, client)
        await keys.refresh()
        try:
            jwt = signed_jwt.parse(token.encode())
            named = signed_jwt.issuer_of(jwt, dict.fromkeys(issuer.names, issuer))
            signed_jwt.check_header(jwt, named, logout_token.TYPS)
            signed = await keys.verify(jwt, named, arrived_at=time.time())
            return logout_token.validate(signed, now=time.time())
        finally:
            await keys.aclose()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_one_thing_changed_decides(case: Case, provider: Provider, tmp_path: Path) -> None:
    """A good token with one thing changed is accepted, or refused with its own reason."""
    issuer = issuer_settings(tmp_path, provider, case.options)
    if case.expected is None:
        assert isinstance(await verify(case.token(provider), issuer), LogoutToken)
        return
    with pytest.raises(TokenRefused) as refusal:
        await verify(case.token(provider), issuer)
    assert refusal.value.reason is case.expected


@pytest.mark.parametrize(("expected", "token"), ORDER, ids=[str(reason) for reason, _ in ORDER])
async def test_of_two_faults_the_earlier_rule_decides(
    expected: Reason, token: Build, provider: Provider, tmp_path: Path
) -> None:
    """The order of the checks is part of the contract."""
    with pytest.raises(TokenRefused) as refusal:
        await verify(token(provider), issuer_settings(tmp_path, provider))
    assert refusal.value.reason is expected


def test_every_reason_has_a_case() -> None:
    """Every reason is tested; those about the request are tested over HTTP."""
    cases = (*CASES, *ENCRYPTED, *SIGNED)
    assert {case.expected for case in cases if case.expected} | OF_THE_REQUEST == set(Reason)


def test_every_reason_has_a_sentence() -> None:
    assert set(SENTENCES) == set(Reason)


@pytest.mark.parametrize(
    ("alg", "published"),
    [
        ("RS256", {}), ("RS384", {}), ("RS512", {}), ("PS256", {}), ("PS384", {}), ("PS512", {}),
        ("ES256", {}), ("ES384", {}), ("ES512", {}), ("EdDSA", {}), ("Ed25519", {}),
        ("EdDSA", {"alg": "Ed25519"}), ("Ed25519", {"alg": "EdDSA"}), ("RS256", {"alg": "RS256"}),
    ],
)  # fmt: skip
async def test_every_configurable_algorithm_verifies(
    alg: str, published: dict[str, str], tmp_path: Path
) -> None:
    """Whether the provider's key has the older or the newer name of its algorithm."""
    with Provider(alg=alg) as provider:
        provider.jwk_members = published
        issuer = issuer_settings(tmp_path, provider, f'algorithms = ["{alg}"]')
        assert (await verify(provider.token(), issuer)).sid == "sid-1"


async def test_eddsa_covers_ed448(tmp_path: Path) -> None:
    with Provider(alg="EdDSA") as provider:
        provider.keys = {"k1": private_key("Ed448")}
        issuer = issuer_settings(tmp_path, provider, 'algorithms = ["EdDSA"]')
        assert await verify(provider.token(), issuer)


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        ({"use": "enc"}, "for encryption"),
        ({"key_ops": ["encrypt"]}, "not for verification"),
        ({"alg": "PS256"}, "for another algorithm"),
        ({"alg": "RSA-OAEP"}, "for encryption, by its algorithm"),
        ({"n": ABSENT}, "without a modulus"),
        ({"n": 5}, "with a modulus that is no text"),
        ({"kid": 5}, "with a kid that is no text"),
        ({"kty": "oct", "k": "AAAA"}, "a shared secret"),
        ({"kty": ABSENT}, "without a type"),
    ],
)
async def test_an_unfit_key_does_not_verify(
    jwk: dict[str, object], why: str, tmp_path: Path
) -> None:
    """The signature is right, but the key must not be used. Other keys still work."""
    with Provider() as provider:
        unfit = private_key("RS256", 5)
        provider.extra_jwks = [public_jwk(unfit, "unfit") | jwk, "no key at all", None]
        provider.extra_jwks[0] = {
            name: value for name, value in provider.extra_jwks[0].items() if value is not ABSENT
        }
        issuer = issuer_settings(tmp_path, provider)
        with pytest.raises(TokenRefused) as refusal:
            await verify(provider.token(key=unfit, header={"kid": "unfit"}), issuer)
        assert refusal.value.reason in (Reason.KEY_UNKNOWN, Reason.KEY_MISMATCH), why
        assert await verify(provider.token(), issuer)


async def test_a_short_rsa_key_is_skipped(tmp_path: Path) -> None:
    """RFC 7518 section 3.3: 2048 bits or larger."""
    with Provider() as provider:
        short = private_key("RSA1024")
        provider.extra_jwks = [public_jwk(short, "short")]
        issuer = issuer_settings(tmp_path, provider)
        with pytest.raises(TokenRefused):
            await verify(provider.token(key=short, header={"kid": "short"}), issuer)


async def test_without_a_kid_every_fitting_key_is_tried(tmp_path: Path) -> None:
    """A key of another type in between does not matter."""
    with Provider() as provider:
        provider.keys = {
            "first": private_key("RS256", 1),
            "curve": private_key("ES256"),
            "last": private_key("RS256", 2),
        }
        issuer = issuer_settings(tmp_path, provider)
        token = provider.token(header={"kid": ABSENT})
        assert await verify(token, issuer)


async def test_at_most_64_keys_are_kept(tmp_path: Path) -> None:
    with Provider() as provider:
        one = public_jwk(private_key("ES256"), "x")
        provider.extra_jwks = [one | {"kid": f"x{n}"} for n in range(100)]
        issuer = issuer_settings(tmp_path, provider)
        async with httpx.AsyncClient(verify=NO_TLS) as client:
            keys = ProviderKeys(issuer, client)
            await keys.refresh()
            assert (keys.state().keys, keys.state().skipped) == (64, 37)
            await asyncio.sleep(0)


async def test_a_verified_token_keeps_its_claims(provider: Provider, tmp_path: Path) -> None:
    """It has the relevant claims, and the configured clients of its audience."""
    token = await verify(
        provider.token(
            aud=["x", "shop-web"],
            iat=1.5 + int(time.time()) - 10,
            jti="j",
            events={EVENT: {}, "revoke_offline_access": True},
        ),
        issuer_settings(tmp_path, provider),
    )
    assert token.client_ids == ("shop-web",)
    assert (token.sub, token.sid, token.jti) == ("alice", "sid-1", "j")
    assert token.revoke_offline_access
    assert token.iat % 1 == 0.5
