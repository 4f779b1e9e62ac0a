"""Logout tokens for the load: signed in advance, on all cores, and held in memory.

Each names its own session and user, like those of real providers. One batch serves every server of
a round, because the servers share nothing.
"""

import base64
import json
import multiprocessing
import os
import random
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.support.providers.provider import EVENT, Provider, private_key

RS256, ES256, EDDSA = "RS256", "ES256", "EdDSA"
ALGORITHMS = (RS256, ES256, EDDSA)

CLIENT_ID = "shop-web"
USERS = "auth0|"
"""The prefix of every ``sub``, as at Auth0."""

# A provider that rotates its keys has a few at a time.
_KEYS = 4

# Shorter than the receiver's default limit of five minutes, longer than a round.
_LIFE = 290


@dataclass(frozen=True, slots=True)
class Token:
    """A signed logout token, and its issuer, session and user."""

    text: str
    iss: str
    sid: str
    sub: str

    def request(self, path: str) -> bytes:
        """The provider's POST."""
        body = b"logout_token=" + self.text.encode()
        return (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def forged(self) -> "Token":
        """The same claims with a random signature of the same length."""
        head, _, signature = self.text.rpartition(".")
        forged = base64.urlsafe_b64encode(os.urandom(len(signature) * 3 // 4)).rstrip(b"=")
        return Token(f"{head}.{forged.decode()}", self.iss, self.sid, self.sub)


class Mint:
    """Signs tokens for the provider that the measured servers trust."""

    def __init__(self, provider: Provider, pool: ProcessPoolExecutor) -> None:
        self._issuer = provider.issuer
        self._pool = pool

    def sign(
        self,
        count: int,
        *,
        issuers: tuple[str, ...] = (),
        audience: tuple[str, ...] = (CLIENT_ID,),
    ) -> list[Token]:
        """``count`` fresh tokens, of ``issuers`` in turn (by default the provider's own)."""
        names, share = issuers or (self._issuer,), 250
        jobs = [
            self._pool.submit(_sign, names, audience, first, min(share, count - first))
            for first in range(0, count, share)
        ]
        return [token for job in jobs for token in job.result()]


@contextmanager
def minting(algorithm: str = RS256) -> Iterator[tuple[Provider, Mint]]:
    """A provider with four keys for ``algorithm``, and its mint."""
    with Provider(alg=algorithm) as provider:
        provider.keys = {f"k{n}": private_key(algorithm, which=n) for n in range(_KEYS)}
        provider.discovery = {
            "authorization_endpoint": f"{provider.origin}/authorize",
            "response_types_supported": ["code", "id_token"],
        }
        pems = {
            kid: key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            for kid, key in provider.keys.items()
        }
        with ProcessPoolExecutor(
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_set_keys,
            initargs=(algorithm, pems),
        ) as pool:
            yield provider, Mint(provider, pool)


# -- in the processes of the pool -----------------------------------------------------------

_algorithm = ""
_keys: dict[str, Any] = {}


def _set_keys(algorithm: str, pems: dict[str, bytes]) -> None:
    global _algorithm  # noqa: PLW0603  set once in each process of the pool
    _algorithm = algorithm
    _keys.update({kid: serialization.load_pem_private_key(pem, None) for kid, pem in pems.items()})


def _sign(
    issuers: tuple[str, ...], audience: tuple[str, ...], first: int, count: int
) -> list[Token]:
    now, tokens = int(time.time()), []
    for n in range(first, first + count):
        kid, iss = f"k{random.randrange(_KEYS)}", issuers[n % len(issuers)]  # noqa: S311
        sid, sub = secrets.token_urlsafe(24), USERS + secrets.token_hex(12)
        header = {"alg": _algorithm, "kid": kid, "typ": "logout+jwt"}
        claims: dict[str, Any] = {
            "iss": iss,
            "sub": sub,
            "aud": audience[0] if len(audience) == 1 else audience,
            "iat": now,
            "exp": now + _LIFE,
            "jti": secrets.token_urlsafe(16),
            "sid": sid,
            "events": {EVENT: {}},
        }
        signing_input = b".".join(_segment(json.dumps(part).encode()) for part in (header, claims))
        signature = _segment(signature_of(_keys[kid], signing_input))
        tokens.append(Token((signing_input + b"." + signature).decode(), iss, sid, sub))
    return tokens


def signature_of(key: Any, data: bytes) -> bytes:
    """The signature in JWS format (RFC 7518 section 3, RFC 8037)."""
    match key:
        case rsa.RSAPrivateKey():
            return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        case ec.EllipticCurvePrivateKey():
            r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32) + s.to_bytes(32)
        case ed25519.Ed25519PrivateKey():
            return key.sign(data)
    raise TypeError(type(key))


def _segment(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
