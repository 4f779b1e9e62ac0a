"""A panic in a library of Rust concerns the token or key that it came with, and nothing else."""

import asyncio
import json
from typing import Any

import pytest

from app.errors import LibraryPanic, fault_of
from app.tokens import jwks, private_key
from app.tokens.jwks import read_key_set
from tests.support.encryption import RSA, decryption_key, encrypt
from tests.support.provider import Provider


class Panic(BaseException):
    """As `pyo3_runtime.PanicException`, which cannot be imported."""


def panicking(*_: Any, **__: Any) -> None:
    raise Panic


@pytest.mark.parametrize("ends", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_what_ends_a_task_or_the_process_is_raised_again(ends: type[BaseException]) -> None:
    with pytest.raises(ends):
        fault_of(ends())


def test_an_exception_is_the_fault_itself_and_a_panic_becomes_one() -> None:
    error, panic = ValueError(), Panic()
    assert fault_of(error) is error
    assert isinstance(fault_of(panic), LibraryPanic)
    assert fault_of(panic).__cause__ is panic


def test_a_key_that_panics_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with Provider() as provider:
        good = provider.jwks()["keys"][0]
    read = jwks._READERS["RSA"].from_jwk

    def reading(members: dict[str, str]) -> Any:
        if members["e"] == "AQAD":
            raise Panic
        return read(members)

    monkeypatch.setattr(jwks._READERS["RSA"], "from_jwk", reading)
    document = {"keys": [good | {"kid": "bad", "e": "AQAD"}, good]}
    found = read_key_set(json.dumps(document).encode())
    assert [key.kid for key in found.keys] == [good["kid"]]
    assert found.skipped == 1


def test_an_encrypted_token_that_panics_is_one_that_no_key_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = decryption_key(RSA)
    private = private_key.PrivateKey(RSA, key.as_pem(private=True))
    token = encrypt(b"e30.e30.AA", key).encode()
    assert private.decrypt(token) == b"e30.e30.AA"
    monkeypatch.setattr(private_key, "decrypt_compact", panicking)
    assert private.decrypt(token) is None
