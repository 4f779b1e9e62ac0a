"""A panic in a Rust library affects only the token or key that caused it."""

import asyncio
import json
from typing import Any

import pytest

from app.errors import LibraryPanic, fault_of
from app.tokens import jwks, private_key
from app.tokens.jwks import read_key_set
from tests.support.providers.encryption import RSA, decryption_key, encrypt
from tests.support.providers.provider import Provider


class Panic(BaseException):
    """Like `pyo3_runtime.PanicException`, which cannot be imported."""


def panicking(*_: Any, **__: Any) -> None:
    raise Panic


@pytest.mark.parametrize("ends", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_exceptions_that_end_a_task_or_the_process_are_reraised(ends: type[BaseException]) -> None:
    with pytest.raises(ends):
        fault_of(ends())


def test_an_exception_stays_itself_and_a_panic_becomes_an_exception() -> None:
    error, panic = ValueError(), Panic()
    assert fault_of(error) is error
    assert isinstance(fault_of(panic), LibraryPanic)
    assert fault_of(panic).__cause__ is panic


def test_a_key_that_panics_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    with Provider() as provider:
        good = provider.jwks()["keys"][0]
    read = jwks._READERS["RSA"].from_jwk

    def reading(members: dict[str, str]) -> Any:
        if members["e"] == "AQAD":
            raise Panic
        return read(members)

    monkeypatch.setattr(jwks._READERS["RSA"], "from_jwk", reading)
    document = {"keys": [good | {"kid": "bad", "e": "AQAD"}, good]}
    key_set = read_key_set(json.dumps(document).encode())
    assert [key.kid for key in key_set.keys] == [good["kid"]]
    assert key_set.skipped == 1


def test_an_encrypted_token_that_panics_is_not_decrypted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = decryption_key(RSA)
    private = private_key.PrivateKey(RSA, key.as_pem(private=True))
    token = encrypt(b"e30.e30.AA", key).encode()
    assert private.decrypt(token) == b"e30.e30.AA"
    monkeypatch.setattr(private_key, "decrypt_compact", panicking)
    assert private.decrypt(token) is None
