"""Decryption keys and client secrets in the settings: their faults, and that they stay hidden."""

import hashlib
import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from app.config.load import SettingsFault, load
from app.config.model import Settings
from tests.support.providers.encryption import EC, RSA, decryption_key, pem, write_jwk, write_pem
from tests.support.providers.provider import private_key

SECRET = "a secret of the client's, long enough"


def settings(directory: Path, issuer: str = "", client: str = "", top: str = "") -> Settings:
    path = directory / "settings.toml"
    path.write_text(
        f'redis_url = "embedded"\n{top}\n[[issuers]]\nissuer = "https://op.example"\n{issuer}\n'
        f'[[issuers.clients]]\nclient_id = "shop"\n{client}\n'
    )
    return load(path, {})


def faults(directory: Path, **parts: str) -> list[str]:
    with pytest.raises(SettingsFault) as fault:
        settings(directory, **parts)
    return fault.value.faults


# -- decryption keys -------------------------------------------------------------------------------


def test_the_kid_of_a_pem_is_its_thumbprint(tmp_path: Path) -> None:
    """RFC 7638, computed here independently."""
    key = decryption_key(EC)
    file = write_pem(tmp_path, "key.pem", key)
    (read,) = settings(tmp_path, f'decryption_keys = ["{file}"]').issuers[0].keys_to_decrypt
    public = key.as_dict(private=False)
    text = f'{{"crv":"P-256","kty":"EC","x":"{public["x"]}","y":"{public["y"]}"}}'
    digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    assert (read.kid, read.alg) == (digest, "ECDH-ES")


def test_an_issuers_keys_come_from_a_set_and_a_file(tmp_path: Path) -> None:
    """Also from the top level, for every issuer."""
    both = write_jwk(
        tmp_path,
        "set.json",
        (decryption_key(RSA), {"kid": "a"}),
        (decryption_key(EC), {"kid": "b"}),
    )
    one = write_jwk(tmp_path, "one.json", (decryption_key(EC, 5), {"kid": "c"}))
    line = f'decryption_keys = ["{both}", "{one}"]'
    for where in ("issuer", "top"):
        (issuer,) = settings(tmp_path, **{where: line}).issuers
        assert [key.kid for key in issuer.keys_to_decrypt] == ["a", "b", "c"]
    from_environment = load(tmp_path / "settings.toml", {"BCL_DECRYPTION_KEYS": f"{both},{one}"})
    assert len(from_environment.issuers[0].keys_to_decrypt) == 3


def test_the_repr_contains_no_key_and_no_secret(tmp_path: Path) -> None:
    file = write_pem(tmp_path, "key.pem", decryption_key(EC))
    read = settings(
        tmp_path,
        f'decryption_keys = ["{file}"]',
        f'algorithms = ["HS256"]\nclient_secret = "{SECRET}"',
    )
    assert "PRIVATE" not in repr(read)
    assert read.issuers[0].clients[0].secret == SECRET.encode()
    assert SECRET not in repr(read)


def _bytes(directory: Path, raw: bytes) -> Path:
    path = directory / "key"
    path.write_bytes(raw)
    return path


def _jwk(**members: Any) -> bytes:
    return json.dumps(dict(decryption_key(EC).as_dict(private=True)) | members).encode()


def _locked() -> bytes:
    how = BestAvailableEncryption(b"passphrase")
    return bytes(private_key("ES256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "is neither a private key in PEM nor a JSON Web Key"),
        (b"\x00\xff", "is neither a private key in PEM nor a JSON Web Key"),
        (b"{", "is neither a private key in PEM nor a JSON Web Key"),
        (b'{"keys": []}', "contains no key"),
        (b'{"keys": 1}', "contains no key"),
        (b'{"keys": [1]}', "a decryption key has the type RSA or EC"),
        (b'{"kty": "oct", "k": "AAAA"}', "a decryption key has the type RSA or EC"),
        (b'{"kty": "EC", "crv": "P-256"}', "is not a usable JSON Web Key"),
        (_jwk(use="sig"), "the key is not for encryption (use)"),
        (_jwk(alg="ECDH-ES+A256KW"), "the key is for another alg than ECDH-ES"),
        (_jwk(kid=5), "the key's kid is not a string"),
        (_jwk(d=None), "is not a usable JSON Web Key"),
        (b" " * (65 << 10), "is larger than 64 KiB"),
        (
            pem(ed25519.Ed25519PrivateKey.generate()),
            "a decryption key is a private RSA key, or one of P-256, P-384 or P-521",
        ),
        (
            pem(decryption_key(EC, 3, "secp256k1").private_key),
            "a decryption key is a private RSA key, or one of P-256, P-384 or P-521",
        ),
        (pem(private_key("RSA1024")), "an RSA key needs 2048 bits or more"),
        (
            decryption_key(EC).as_pem(private=False),
            "is neither a private key in PEM nor a JSON Web Key",
        ),
        (_locked(), "the key has a passphrase; store it without one"),
    ],
)
def test_a_file_that_is_not_a_decryption_key_is_a_fault(
    raw: bytes, sentence: str, tmp_path: Path
) -> None:
    file = _bytes(tmp_path, raw)
    lines = faults(tmp_path, issuer=f'decryption_keys = ["{file}"]')
    assert lines == [f"issuers[0].decryption_keys[0]: {sentence}"]


def test_a_public_jwk_is_not_a_decryption_key(tmp_path: Path) -> None:
    file = _bytes(tmp_path, json.dumps(decryption_key(EC).as_dict(private=False)).encode())
    (line,) = faults(tmp_path, issuer=f'decryption_keys = ["{file}"]')
    assert "a private RSA key, or one of P-256" in line


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, issuer=f'decryption_keys = ["{tmp_path}/none"]')
    assert line == "issuers[0].decryption_keys[0]: cannot be read (No such file or directory)"
    assert faults(tmp_path, issuer="decryption_keys = [5]") == [
        "issuers[0].decryption_keys[0]: must name a file"
    ]


def test_repeated_kids_and_too_many_keys_are_faults(tmp_path: Path) -> None:
    file = write_pem(tmp_path, "key.pem", decryption_key(EC))
    (line,) = faults(tmp_path, issuer=f'decryption_keys = ["{file}", "{file}"]')
    assert line == "issuers[0].decryption_keys: two keys have the same kid"
    many = [(decryption_key(EC, n), {"kid": str(n)}) for n in range(20, 29)]
    file = write_jwk(tmp_path, "set.json", *many)
    (line,) = faults(tmp_path, issuer=f'decryption_keys = ["{file}"]')
    assert line == "issuers[0].decryption_keys: at most 8 keys"


def test_required_encryption_without_a_key_is_a_fault(tmp_path: Path) -> None:
    line = 'encryption = "required"'
    expected = ["issuers[0].encryption: required, but there are no decryption_keys"]
    assert faults(tmp_path, issuer=line) == expected
    assert faults(tmp_path, top=line) == expected
    assert settings(tmp_path, 'encryption = "optional"', top='encryption = "optional"')


# -- clients' secrets ------------------------------------------------------------------------------


def test_a_secret_comes_from_the_settings_or_from_a_file(tmp_path: Path) -> None:
    """The newline at the end of a file is not part of it."""
    hs256 = 'algorithms = ["HS256"]\n'
    (client,) = settings(tmp_path, client=f'{hs256}client_secret = "{SECRET}"').issuers[0].clients
    assert client.secret == SECRET.encode()
    (tmp_path / "secret").write_text(f" {SECRET}\n")
    line = f'client_secret_file = "{tmp_path}/secret"'
    (client,) = settings(tmp_path, client=hs256 + line).issuers[0].clients
    assert client.secret == f" {SECRET}".encode()


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ('algorithms = ["HS256"]',
         "client_secret: is required for HS256 (or client_secret_file)"),
        (f'client_secret = "{SECRET}"',
         'client_secret: is only for algorithms = ["HS256"]'),
        (f'algorithms = ["ES256"]\nclient_secret = "{SECRET}"',
         'client_secret: is only for algorithms = ["HS256"]'),
        (f'algorithms = ["HS256", "RS256"]\nclient_secret = "{SECRET}"',
         "algorithms: HS256 must be alone: a secret or keys, never both"),
        ('algorithms = ["HS256"]\nclient_secret = "0123456789012345678901234567890"',
         "client_secret: a secret for HS256 needs 32 bytes or more (RFC 7518, 3.2)"),
        ('algorithms = ["HS256"]\nclient_secret_file = "/none"',
         "client_secret_file: cannot be read (No such file or directory)"),
    ],
)  # fmt: skip
def test_a_secret_in_the_wrong_place_is_a_fault(client: str, expected: str, tmp_path: Path) -> None:
    assert faults(tmp_path, client=client) == [f"issuers[0].clients[0].{expected}"]


def test_two_secrets_of_a_client_are_a_fault(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    lines = f'client_secret = "{SECRET}"\nclient_secret_file = "{tmp_path}/secret"'
    assert faults(tmp_path, client='algorithms = ["HS256"]\n' + lines) == [
        "issuers[0].clients[0].client_secret_file: conflicts with client_secret; set one of them"
    ]


@pytest.mark.parametrize("alg", ["HS512", "none", "RS257"])
def test_no_other_algorithm_with_a_secret_is_accepted(alg: str, tmp_path: Path) -> None:
    lines = faults(tmp_path, client=f'algorithms = ["{alg}"]')
    assert lines
    assert all(alg not in line for line in lines)


@pytest.mark.parametrize("where", ["issuer", "top"])
def test_an_issuer_never_signs_with_a_secret(where: str, tmp_path: Path) -> None:
    """Otherwise, every relying app could sign logouts for the others."""
    assert faults(tmp_path, **{where: 'algorithms = ["HS256"]'})
