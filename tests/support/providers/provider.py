"""A provider for one test: real keys, real signatures, a real HTTP server that can misbehave."""

import functools
import json
import time
import uuid
from collections import Counter
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from tests.support.servers.http_server import LoopbackHandler, LoopbackServer

EVENT = "http://schemas.openid.net/event/backchannel-logout"

ABSENT = object()
"""The value of a claim or a header that is left out."""


@functools.cache
def private_key(alg: str, which: int = 0) -> Any:
    """A private key for ``alg``, different for each ``which``."""
    del which  # only for the cache
    match alg:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case "ES512":
            return ec.generate_private_key(ec.SECP521R1())
        case "EdDSA" | "Ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "Ed448":
            return ed448.Ed448PrivateKey.generate()
        case "RSA1024":
            return rsa.generate_private_key(65537, 1024)  # noqa: S505  the receiver must skip it
    return rsa.generate_private_key(65537, 2048)


def public_jwk(key: Any, kid: Any, **members: Any) -> dict[str, Any]:
    """The JSON Web Key of a private key's public half."""
    name = {"R": "RS256", "E": "ES256"}.get(type(key).__name__[0], "RS256")
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        name = "EdDSA"
    jwk = get_default_algorithms()[name].to_jwk(key.public_key(), as_dict=True)
    jwk.pop("key_ops", None)
    jwk.update({"use": "sig"} | ({"kid": kid} if kid else {}) | members)
    return {name: value for name, value in jwk.items() if value is not ABSENT}


class ProviderHandler(LoopbackHandler):
    """Answers with discovery document and keys, or misbehaves."""

    owner: "Provider"

    def do_GET(self) -> None:  # noqa: N802  the base class's name
        provider = self.owner
        provider.requests[self.path.removeprefix(provider.path)] += 1
        if "openid-configuration" in self.path:
            body = {
                "issuer": provider.issuer,
                "jwks_uri": provider.origin + "/jwks",
                "backchannel_logout_supported": True,
                "backchannel_logout_session_supported": True,
            }
            self._send(json.dumps(body | provider.discovery).encode())
        elif provider.mode == "hang":
            self.wait_for_release()
        elif provider.mode == "drip":
            self.send_response(200)
            self.end_headers()
            self.drip()
        elif provider.mode == "huge":
            self._send_huge()
        else:
            self._send_keys(provider.mode)

    def _send_huge(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(self.owner.jwks()).encode())
        for _ in range(100):
            self.wfile.write(b" " * 1_000_000)

    def _send_keys(self, mode: str) -> None:
        body = json.dumps(self.owner.jwks()).encode()
        bodies = {
            "rubbish": b"<html>[" * 1000,
            "large": body + b" " * 600 * 1024,
            "empty": b'{"keys": []}',
        }
        headers = {
            "redirect": {"Location": self.owner.origin + "/elsewhere"},
            "gzip": {"Content-Encoding": "gzip"},
        }
        status = {"500": 500, "redirect": 302}.get(mode, 200)
        self._send(bodies.get(mode, body), status, **headers.get(mode, {}))

    def _send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Provider(LoopbackServer):
    """An issuer at a loopback address. ``mode`` makes its documents misbehave.

    Modes: ``ok``, ``500``, ``redirect``, ``hang`` (no headers), ``drip`` (a byte at a time),
    ``rubbish``, ``large``, ``huge`` (100 MB), ``gzip``, ``empty`` (a set without keys).
    """

    handler_type = ProviderHandler

    def __init__(
        self, path: str = "", alg: str = "RS256", address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        super().__init__(address)
        self.issuer = self.origin + path
        self.alg = alg
        self.client_id = "shop-web"
        self.keys: dict[str, Any] = {"k1": private_key(alg)}
        self.jwk_members: dict[str, Any] = {}
        """Additional members of every published key."""
        self.extra_jwks: list[Any] = []
        self.mode = "ok"
        self.requests: Counter[str] = Counter()
        self.discovery: dict[str, Any] = {}

    @property
    def key_fetches(self) -> int:
        return self.requests["/jwks"]

    def rotate(self, kid: str) -> None:
        """Replace all keys with a new one."""
        self.keys = {kid: private_key(self.alg, which=sum(map(ord, kid)))}

    def jwks(self) -> dict[str, Any]:
        own = [
            public_jwk(key, **({"kid": kid} | self.jwk_members)) for kid, key in self.keys.items()
        ]
        return {"keys": own + self.extra_jwks}

    # -- tokens ---------------------------------------------------------------------------

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a valid logout token for the client ``client_id``, with changes."""
        claims = {
            "iss": self.issuer,
            "aud": self.client_id,
            "iat": int(time.time()),
            "exp": int(time.time()) + 120,
            "jti": uuid.uuid4().hex,
            "events": {EVENT: {}},
            "sid": "sid-1",
            "sub": "alice",
        } | changes
        return {name: value for name, value in claims.items() if value is not ABSENT}

    def token(
        self,
        *,
        header: dict[str, Any] | None = None,
        key: Any = None,
        alg: str | None = None,
        **changes: Any,
    ) -> str:
        """A logout token, signed with the newest key. ``changes`` apply to its claims."""
        kid, own = list(self.keys.items())[-1]
        headers = {"kid": kid, "typ": "logout+jwt"} | (header or {})
        return sign(self.claims(**changes), key or own, alg or self.alg, headers)

    @property
    def path(self) -> str:
        return self.issuer.removeprefix(self.origin)


def sign(claims: dict[str, Any], key: Any, alg: str, header: dict[str, Any]) -> str:
    """Sign claims unchanged. PyJWT adds only ``alg`` and, unless it is absent, ``typ``."""
    name = "EdDSA" if alg == "Ed25519" else alg
    headers = {"alg": alg} | {k: v for k, v in header.items() if v is not ABSENT}
    token = jwt.PyJWS()
    return encode_parts(
        headers, claims, lambda data: token.get_algorithm_by_name(name).sign(data, key)
    )


def encode_parts(header: Any, payload: Any, signer: Any) -> str:
    """Join three segments. Header and payload are objects, or bytes that stay unchanged."""
    first, second = (
        base64url(part if isinstance(part, bytes) else json.dumps(part).encode())
        for part in (header, payload)
    )
    signing_input = first + b"." + second
    return (signing_input + b"." + base64url(signer(signing_input))).decode("ascii")


def base64url(data: bytes) -> bytes:
    return jwt.utils.base64url_encode(data)
