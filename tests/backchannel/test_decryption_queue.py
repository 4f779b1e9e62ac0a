"""Encrypted tokens are decrypted in turn, and only as many wait as there are places."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from app.backchannel.admission import FairSemaphore
from app.backchannel.decryption_queue import DecryptionQueue
from app.config.load import load
from app.config.secrets import DecryptionKey
from app.errors import DependencyUnavailable, Outage, TokenRefused
from app.tokens.encrypted_jwt import Decrypter
from tests.support.providers.encryption import (
    EC,
    RSA,
    decryption_key,
    encrypt,
    write_jwk,
    write_pem,
)
from tests.support.receiver import config

ISSUER = "https://op.example"


def new_queue(directory: Path, places: FairSemaphore, keys: str = "") -> DecryptionQueue | None:
    path = directory / "settings.toml"
    path.write_text(config("embedded", f'issuer = "{ISSUER}"\n{keys}'))
    return DecryptionQueue.of({ISSUER: load(path, {}).issuers[0]}, places)


def test_without_a_decryption_key_there_is_no_queue(tmp_path: Path) -> None:
    assert new_queue(tmp_path, FairSemaphore(16)) is None


@contextlib.asynccontextmanager
async def other_task() -> AsyncIterator[Iterator[int]]:
    """Another task in the same loop; counts how often it runs."""
    turns = count()

    async def run() -> None:
        while True:
            await asyncio.sleep(0)
            next(turns)

    task = asyncio.create_task(run())
    try:
        yield turns
    finally:
        task.cancel()


async def test_a_flood_gets_its_share_and_the_rest_is_refused_at_once(tmp_path: Path) -> None:
    """Other tasks run in between."""
    key = decryption_key(RSA)
    file = write_pem(tmp_path, "key.pem", key)
    places = FairSemaphore(32)
    queue = new_queue(tmp_path, places, f'decryption_keys = ["{file}"]')
    assert queue is not None
    inner = b"e30.e30.AA"
    token = encrypt(inner, key).encode()
    async with other_task() as turns:
        flood = [queue.decrypt(token) for _ in range(100)]
        results = await asyncio.gather(*flood, return_exceptions=True)
    refused = [result for result in results if isinstance(result, DependencyUnavailable)]
    assert {refusal.outage for refusal in refused} == {Outage.OVERLOADED}
    assert [result for result in results if result == inner] == [inner] * 16, "half of the places"
    assert len(refused) == 84
    assert next(turns) > 100, "they do not block the loop"
    places.acquire("another issuer")  # fails if a place was not released
    assert await queue.decrypt(token) == inner


async def test_without_a_kid_each_key_takes_a_turn_of_its_own(tmp_path: Path) -> None:
    """However many keys there are, other tasks wait for one operation at a time."""
    keys = [(decryption_key(EC, n), {"kid": str(n)}) for n in range(20, 28)]
    file = write_jwk(tmp_path, "keys.json", *keys)
    queue = new_queue(tmp_path, FairSemaphore(16), f'decryption_keys = ["{file}"]')
    assert queue is not None
    token = encrypt(b"e30.e30.AA", decryption_key(EC, 9)).encode()
    async with other_task() as turns:
        with pytest.raises(TokenRefused, match=r"^decryption$"):
            await queue.decrypt(token)
    assert next(turns) >= len(keys)


async def test_without_a_kid_a_token_holds_a_place_for_each_key(tmp_path: Path) -> None:
    """A token that needs eight operations takes as many places as eight tokens."""
    keys = [(decryption_key(EC, n), {"kid": str(n)}) for n in range(20, 28)]
    file = write_jwk(tmp_path, "keys.json", *keys)
    places = FairSemaphore(128)
    queue = new_queue(tmp_path, places, f'decryption_keys = ["{file}"]')
    assert queue is not None
    noise = encrypt(b"e30.e30.AA", decryption_key(EC, 9)).encode()
    results = await asyncio.gather(
        *(queue.decrypt(noise) for _ in range(20)), return_exceptions=True
    )
    assert [type(result) for result in results] == [TokenRefused] * 8 + [DependencyUnavailable] * 12
    assert places.in_use == 0
    named = encrypt(b"e30.e30.AA", keys[0][0], kid="20").encode()
    results = await asyncio.gather(
        *(queue.decrypt(named) for _ in range(20)), return_exceptions=True
    )
    assert results == [b"e30.e30.AA"] * 20


async def test_with_few_places_a_token_that_needs_many_is_still_admitted(
    tmp_path: Path,
) -> None:
    keys = [(decryption_key(EC, n), {"kid": str(n)}) for n in range(20, 28)]
    file = write_jwk(tmp_path, "keys.json", *keys)
    queue = new_queue(tmp_path, FairSemaphore(2), f'decryption_keys = ["{file}"]')
    assert queue is not None
    assert await queue.decrypt(encrypt(b"e30.e30.AA", keys[7][0]).encode()) == b"e30.e30.AA"


async def test_without_a_kid_the_most_recently_successful_key_is_tried_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of another size or curve are not tried."""
    keys = [(decryption_key(EC, n), {"kid": str(n)}) for n in range(20, 24)]
    others = [(decryption_key(EC, n, curve="P-384"), {"kid": str(n)}) for n in range(30, 34)]
    file = write_jwk(tmp_path, "keys.json", *others, *keys)
    queue = new_queue(tmp_path, FairSemaphore(64), f'decryption_keys = ["{file}"]')
    assert queue is not None
    tried = list[str]()
    decrypt_with = Decrypter.decrypt_with

    def counted(self: Decrypter, key: DecryptionKey, token: bytes) -> bytes | None:
        tried.append(key.kid)
        return decrypt_with(self, key, token)

    monkeypatch.setattr(Decrypter, "decrypt_with", counted)
    for _ in range(2):
        await queue.decrypt(encrypt(b"e30.e30.AA", keys[3][0]).encode())
    await queue.decrypt(encrypt(b"e30.e30.AA", others[1][0]).encode())
    assert tried == ["20", "21", "22", "23", "23", "30", "31"]


async def test_a_place_is_released_when_a_token_is_refused(tmp_path: Path) -> None:
    file = write_pem(tmp_path, "key.pem", decryption_key(RSA))
    queue = new_queue(tmp_path, FairSemaphore(2), f'decryption_keys = ["{file}"]')
    assert queue is not None
    bad = encrypt(b"e30.e30.AA", decryption_key(RSA, 9)).encode()
    for _ in range(3):
        with pytest.raises(TokenRefused, match=r"^decryption$"):
            await queue.decrypt(bad)
