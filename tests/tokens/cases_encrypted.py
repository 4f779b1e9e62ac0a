"""Cases of encrypted tokens and of clients with their own algorithms: a good token with one thing
changed, and the expected result. Run over HTTP by tests/backchannel/test_encrypted.py."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.errors import Reason
from tests.support.providers.encryption import (
    EC,
    RSA,
    decryption_key,
    encrypt,
    password,
    with_header,
)
from tests.support.providers.provider import ABSENT, Provider, encode_parts, private_key, public_jwk

SECRET = "a secret of the client's, long enough"
OTHER_SECRET = "another client's secret, long enough"

RSA_KEY, EC_KEY, EC_NEXT = (
    decryption_key(RSA), decryption_key(EC), decryption_key(EC, 5, "P-521"),
)  # fmt: skip
REQUIRED_KEY, FOREIGN_KEY = decryption_key(EC, 6), decryption_key(EC, 9)
RSA_KID, EC_KID, NEXT_KID, REQUIRED_KID = "rsa-1", "ec-1", "ec-2", "required-1"


@dataclass(frozen=True)
class Scene:
    """``provider`` has the keys RSA_KEY, EC_KEY and EC_NEXT, and clients of every kind;
    ``required`` demands encryption, to REQUIRED_KEY; ``plain`` knows nothing of encryption."""

    provider: Provider
    required: Provider
    plain: Provider


Build = Callable[[Scene], str]


@dataclass(frozen=True)
class Case:
    """``expected`` is the reason of the refusal; None: the token is accepted."""

    name: str
    token: Build
    expected: Reason | None = None

    @property
    def id(self) -> str:
        return f"{self.expected or 'accepted'}: {self.name}".replace(" ", "-")


def to(key: Any = EC_KEY, inner: Build = lambda s: s.provider.token(), **header: Any) -> Build:
    """A good token, encrypted to the key of this kid."""
    return lambda scene: encrypt(inner(scene), key, **header)


def claims(**changes: Any) -> Build:
    return lambda scene: scene.provider.token(**changes)


def segment(index: int, change: Callable[[str], str]) -> Build:
    """A good encrypted token with one segment changed."""

    def build(scene: Scene) -> str:
        parts = to(RSA_KEY, kid=RSA_KID)(scene).split(".")
        parts[index] = change(parts[index])
        return ".".join(parts)

    return build


def under(header: bytes | dict[str, Any], key: Any = EC_KEY) -> Build:
    """A good encrypted token under another header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return lambda scene: with_header(to(key)(scene), raw)


def _flipped(text: str) -> str:
    return ("A" if text[0] != "A" else "B") + text[1:]


def _unsigned(alg: str, signature: bytes) -> Build:
    def build(scene: Scene) -> str:
        token = encode_parts({"alg": alg}, scene.provider.claims(), lambda _: signature)
        return token if signature else token.rpartition(".")[0] + "."

    return build


def _plain_claims(scene: Scene) -> str:
    return json.dumps(scene.provider.claims())


BARE = {"alg": EC, "enc": "A256GCM", "kid": EC_KID}
HEAD = BARE | {"cty": "JWT"}
X25519 = {"kty": "OKP", "crv": "X25519", "x": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
OFF_CURVE = {"kty": "EC", "crv": "P-256", "x": "AQ" + "A" * 41, "y": "AQ" + "A" * 41}

ENCRYPTED = (
    Case("RSA-OAEP-256, A256GCM", to(RSA_KEY, kid=RSA_KID)),
    Case("RSA-OAEP-256, A128CBC-HS256", to(RSA_KEY, kid=RSA_KID, enc="A128CBC-HS256")),
    Case("ECDH-ES, A256GCM", to(EC_KEY, kid=EC_KID)),
    Case("ECDH-ES, A128CBC-HS256", to(EC_KEY, kid=EC_KID, enc="A128CBC-HS256")),
    Case("the next key, on another curve", to(EC_NEXT, kid=NEXT_KID)),
    Case("no kid, RSA", to(RSA_KEY)),
    Case("no kid, the second key of two", to(EC_NEXT)),
    Case("members that nobody knows", to(EC_KEY, kid=EC_KID, iss="https://x.example", x=[1])),
    Case("jku, jwk and x5c are not looked at", to(
        jku="https://x.example/", jwk=FOREIGN_KEY.as_dict(private=False), x5c=["x"])),
    Case("with apu and apv", to(EC_KEY, kid=EC_KID, apu="QQ", apv="Qg")),
    Case("cty in another case", to(EC_KEY, kid=EC_KID, cty="jwt")),
    Case("cty with application/", to(EC_KEY, kid=EC_KID, cty="application/JWT")),
    Case("cty absent", under(BARE), Reason.ENCRYPTION_HEADER),
    Case("cty empty", to(EC_KEY, kid=EC_KID, cty=""), Reason.ENCRYPTION_HEADER),
    Case("cty of something else", to(EC_KEY, kid=EC_KID, cty="JWE"), Reason.ENCRYPTION_HEADER),
    Case("cty a number", under(HEAD | {"cty": 1}), Reason.ENCRYPTION_HEADER),
    Case("not encrypted, where it need not be", claims()),
    Case("required", lambda s: encrypt(s.required.token(), REQUIRED_KEY, kid=REQUIRED_KID)),
    Case("a client's secret inside", lambda s: encrypt(shared(s, "hs-web"), EC_KEY)),
    Case("not encrypted, though required", lambda s: s.required.token(),
         Reason.ENCRYPTION_REQUIRED),
    Case("not encrypted, and alg none too", lambda s: encode_parts(
        {"alg": "none"}, s.required.claims(), lambda _: b"x"), Reason.ENCRYPTION_REQUIRED),
    Case("header not base64url", segment(0, lambda s: "+" + s), Reason.ENCRYPTION_HEADER),
    Case("header empty", lambda _: "....", Reason.ENCRYPTION_HEADER),
    Case("header not JSON", under(b"{"), Reason.ENCRYPTION_HEADER),
    Case("header an array", under(b"[]"), Reason.ENCRYPTION_HEADER),
    Case("header with duplicate alg", under(b'{"alg":"ECDH-ES","alg":"dir"}'),
         Reason.ENCRYPTION_HEADER),
    Case("compressed", to(EC_KEY, kid=EC_KID, zip="DEF"), Reason.ENCRYPTION_HEADER),
    Case("zip null", under(HEAD | {"zip": None}), Reason.ENCRYPTION_HEADER),
    Case("crit", under(HEAD | {"crit": ["exp"]}), Reason.ENCRYPTION_HEADER),
    Case("kid a number", under(HEAD | {"kid": 1}), Reason.ENCRYPTION_HEADER),
    Case("kid null is no kid", under(HEAD | {"kid": None}), Reason.DECRYPTION),
    Case("alg absent", under({"enc": "A256GCM"}), Reason.ENCRYPTION_ALG),
    Case("alg an array", under(HEAD | {"alg": [EC]}), Reason.ENCRYPTION_ALG),
    Case("alg RSA1_5", to(RSA_KEY, alg="RSA1_5"), Reason.ENCRYPTION_ALG),
    Case("alg RSA-OAEP with SHA-1", to(RSA_KEY, alg="RSA-OAEP"), Reason.ENCRYPTION_ALG),
    Case("alg ECDH-ES+A256KW", to(EC_KEY, alg="ECDH-ES+A256KW"), Reason.ENCRYPTION_ALG),
    Case("alg PBES2", to(password(), alg="PBES2-HS256+A128KW"), Reason.ENCRYPTION_ALG),
    Case("alg dir", to(password(), alg="dir"), Reason.ENCRYPTION_ALG),
    Case("alg A256KW", to(password(), alg="A256KW"), Reason.ENCRYPTION_ALG),
    Case("enc absent", under({"alg": EC}), Reason.ENCRYPTION_ALG),
    Case("enc A128GCM", to(enc="A128GCM"), Reason.ENCRYPTION_ALG),
    Case("enc A256CBC-HS512", to(enc="A256CBC-HS512"), Reason.ENCRYPTION_ALG),
    Case("kid unknown", to(kid="ec-3"), Reason.DECRYPTION),
    Case("kid of a key for another alg", to(RSA_KEY, kid=EC_KID), Reason.DECRYPTION),
    Case("a foreign key under a known kid", to(FOREIGN_KEY, kid=EC_KID), Reason.DECRYPTION),
    Case("a foreign key and no kid", to(FOREIGN_KEY), Reason.DECRYPTION),
    Case("the key of another issuer", to(REQUIRED_KEY, kid=REQUIRED_KID), Reason.DECRYPTION),
    Case("for an issuer without keys", to(inner=lambda s: s.plain.token()), Reason.DECRYPTION),
    Case("epk absent", under(HEAD), Reason.DECRYPTION),
    Case("epk not an object", under(HEAD | {"epk": "x"}), Reason.DECRYPTION),
    Case("epk of another kind", under(HEAD | {"epk": X25519}), Reason.DECRYPTION),
    Case("epk not on its curve", under(HEAD | {"epk": OFF_CURVE}), Reason.DECRYPTION),
    Case("another header", under({"alg": RSA, "enc": "A256GCM", "cty": "JWT", "x": 1}, RSA_KEY),
         Reason.DECRYPTION),
    Case("key tampered with", segment(1, _flipped), Reason.DECRYPTION),
    Case("key absent", segment(1, lambda _: ""), Reason.DECRYPTION),
    Case("key of a megabyte's kind", segment(1, lambda _: "A" * 12000), Reason.DECRYPTION),
    Case("initialization vector tampered with", segment(2, _flipped), Reason.DECRYPTION),
    Case("initialization vector short", segment(2, lambda _: "AAAA"), Reason.DECRYPTION),
    Case("ciphertext tampered with", segment(3, _flipped), Reason.DECRYPTION),
    Case("ciphertext absent", segment(3, lambda _: ""), Reason.DECRYPTION),
    Case("tag tampered with", segment(4, _flipped), Reason.DECRYPTION),
    Case("tag cut short", segment(4, lambda s: s[:8]), Reason.DECRYPTION),
    Case("white space", segment(3, lambda s: s + "\n"), Reason.SHAPE),
    Case("padding", segment(4, lambda s: s + "=="), Reason.SHAPE),
    Case("standard base64", segment(1, lambda s: "+/" + s[2:]), Reason.SHAPE),
    Case("inside: claims without a signature", to(inner=_plain_claims), Reason.SHAPE),
    Case("inside: alg none, unsigned", to(inner=_unsigned("none", b"")), Reason.SHAPE),
    Case("inside: alg none, with a signature", to(inner=_unsigned("none", b"x")), Reason.ALG),
    Case("inside: encrypted again", to(inner=to()), Reason.SHAPE),
    Case("inside: nothing", to(inner=lambda _: ""), Reason.SHAPE),
    Case("inside: not text", lambda _: encrypt(b"\xff\x00.\xff.\xff", EC_KEY), Reason.SHAPE),
    Case("inside: of an unknown issuer", to(inner=claims(iss="https://x.example")),
         Reason.ISS_UNKNOWN),
    Case("inside: iss absent", to(inner=claims(iss=ABSENT)), Reason.ISS),
    Case("inside: signed by another key",
         to(inner=lambda s: s.provider.token(key=private_key("RS256", 9))), Reason.SIGNATURE),
    Case("inside: for another client", to(inner=claims(aud="x")), Reason.AUD_UNKNOWN),
    Case("inside: with a nonce", to(inner=claims(nonce="n")), Reason.NONCE),
    Case("inside: an ID token's typ", to(inner=lambda s: s.provider.token(
        header={"typ": "at+jwt"})), Reason.TYP),
)  # fmt: skip


# -- clients with algorithms of their own ----------------------------------------------------------


def mac(
    secret: bytes, alg: str = "HS256", header: dict[str, Any] | None = None, **changes: Any
) -> Build:
    """A token under a secret."""
    digest = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[alg]
    return lambda scene: encode_parts(
        {"alg": alg, "typ": "logout+jwt"} | (header or {}),
        scene.provider.claims(**({"aud": "hs-web"} | changes)),
        lambda data: hmac.new(secret, data, digest).digest(),
    )


def shared(scene: Scene, aud: object) -> str:
    return mac(SECRET.encode(), aud=aud)(scene)


def _by_public_key(scene: Scene) -> str:
    pem = scene.provider.keys["k1"].public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    return mac(pem, header={"kid": "k1"})(scene)


def _by_public_jwk(scene: Scene) -> str:
    return mac(json.dumps(public_jwk(scene.provider.keys["k1"], "k1")).encode())(scene)


def _other_claims(scene: Scene) -> str:
    first, second = shared(scene, "hs-web").split("."), mac(b"x", sub="eve")(scene).split(".")
    return ".".join((first[0], second[1], first[2]))


def es256(**changes: Any) -> Build:
    return lambda s: s.provider.token(
        key=s.provider.keys["e1"], alg="ES256", header={"kid": "e1"}, **changes
    )


def rs256(**changes: Any) -> Build:
    return lambda s: s.provider.token(key=s.provider.keys["k1"], header={"kid": "k1"}, **changes)


OCT = b"a shared secret that stands in the key set"

SIGNED = (
    Case("under the client's secret", mac(SECRET.encode())),
    Case("aud an array of one", mac(SECRET.encode(), aud=["hs-web"])),
    Case("with a kid that nobody knows", mac(SECRET.encode(), header={"kid": "x"})),
    Case("with the kid of a key", mac(SECRET.encode(), header={"kid": "k1"})),
    Case("a client with an algorithm of its own", es256(aud="es-web")),
    Case("the issuer's algorithm for the others", rs256()),
    Case("two clients of one algorithm", rs256(aud=["shop-web", "mail-web"])),
    Case("HS256 for a client that has keys", mac(SECRET.encode(), aud="shop-web"), Reason.ALG),
    Case("HS256 for nobody that is known", mac(SECRET.encode(), aud="x"), Reason.ALG),
    Case("HS256 without aud", mac(SECRET.encode(), aud=ABSENT), Reason.ALG),
    Case("HS512", mac(SECRET.encode(), "HS512"), Reason.ALG),
    Case("a key for the client that has a secret", rs256(aud="hs-web"), Reason.ALG),
    Case("a key for both", rs256(aud=["shop-web", "hs-web"]), Reason.ALG),
    Case("a secret for both", mac(SECRET.encode(), aud=["hs-web", "shop-web"]), Reason.ALG),
    Case("the issuer's algorithm for a client of its own", rs256(aud="es-web"), Reason.ALG),
    Case("a client's own algorithm for the others", es256(), Reason.ALG),
    Case("a client's own algorithm, and the others'", es256(aud=["es-web", "shop-web"]),
         Reason.ALG),
    Case("a secret, and a foreign audience", mac(SECRET.encode(), aud=["hs-web", "api://x"]),
         Reason.AUD_NOT_ALONE),
    Case("a secret, and two clients with one", mac(SECRET.encode(), aud=["hs-web", "hs-file"]),
         Reason.AUD_NOT_ALONE),
    Case("a secret, and the client twice", mac(SECRET.encode(), aud=["hs-web", "hs-web"]),
         Reason.AUD_NOT_ALONE),
    Case("another client's secret", mac(OTHER_SECRET.encode()), Reason.SIGNATURE),
    Case("an empty secret", mac(b""), Reason.SIGNATURE),
    Case("the public key as a secret", _by_public_key, Reason.SIGNATURE),
    Case("the public JWK as a secret", _by_public_jwk, Reason.SIGNATURE),
    Case("a secret of the key set", mac(OCT, header={"kid": "oct"}), Reason.SIGNATURE),
    Case("other claims", _other_claims, Reason.SIGNATURE),
    Case("another rule", mac(SECRET.encode(), nonce="n"), Reason.NONCE),
    Case("typ of another token", mac(SECRET.encode(), header={"typ": "at+jwt"}), Reason.TYP),
)  # fmt: skip
