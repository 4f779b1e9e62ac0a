"""Encrypted tokens wait for their turn, and no more of them than there are places."""

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
from tests.support.encryption import EC, RSA, decryption_key, encrypt, write_jwk, write_pem
from tests.support.receiver import config

ISSUER = "https://op.example"


def decrypting(directory: Path, places: FairSemaphore, keys: str = "") -> DecryptionQueue | None:
    path = directory / "settings.toml"
    path.write_text(config("embedded", f'issuer = "{ISSUER}"\n{keys}'))
    return DecryptionQueue.of({ISSUER: load(path, {}).issuers[0]}, places)


def test_without_a_key_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert decrypting(tmp_path, FairSemaphore(16)) is None


@contextlib.asynccontextmanager
async def others() -> AsyncIterator[Iterator[int]]:
    """Somebody else in the same loop, and a count of how often it was let run."""
    turns = count()

    async def run() -> None:
        while True:
            await asyncio.sleep(0)
            next(turns)

    beside = asyncio.create_task(run())
    try:
        yield turns
    finally:
        beside.cancel()


async def test_a_flood_gets_its_share_and_the_rest_is_told_at_once(tmp_path: Path) -> None:
    """And while it is served, others run in between."""
    key = decryption_key(RSA)
    file = write_pem(tmp_path, "key.pem", key)
    places = FairSemaphore(32)
    opener = decrypting(tmp_path, places, f'decryption_keys = ["{file}"]')
    assert opener is not None
    inner = b"e30.e30.AA"
    token = encrypt(inner, key).encode()
    async with others() as turns:
        flood = [opener.decrypt(token) for _ in range(100)]
        results = await asyncio.gather(*flood, return_exceptions=True)
    told = [one for one in results if isinstance(one, DependencyUnavailable)]
    assert {one.outage for one in told} == {Outage.OVERLOADED}
    assert [one for one in results if one == inner] == [inner] * 16, "half of the places"
    assert len(told) == 84
    assert next(turns) > 100, "they do not hold the loop"
    places.acquire("another issuer")  # each place was given back, or there would be fewer
    assert await opener.decrypt(token) == inner


async def test_without_a_kid_each_key_is_a_turn_of_its_own(tmp_path: Path) -> None:
    """However many keys there are, nobody else waits for more than one of them."""
    keys = [(decryption_key(EC, n), {"kid": str(n)}) for n in range(20, 28)]
    file = write_jwk(tmp_path, "keys.json", *keys)
    opener = decrypting(tmp_path, FairSemaphore(16), f'decryption_keys = ["{file}"]')
    assert opener is not None
    token = encrypt(b"e30.e30.AA", decryption_key(EC, 9)).encode()
    async with others() as turns:
        with pytest.raises(TokenRefused, match=r"^decryption$"):
            await opener.decrypt(token)
    assert next(turns) >= len(keys)


async def test_without_a_kid_a_token_holds_a_place_for_each_key(tmp_path: Path) -> None:
    """Noise that asks for eight operations leaves as many places to others as eight tokens do."""
    keys = [(decryption_key(EC, n), {"kid": str(n)}) for n in range(20, 28)]
    file = write_jwk(tmp_path, "keys.json", *keys)
    places = FairSemaphore(128)
    opener = decrypting(tmp_path, places, f'decryption_keys = ["{file}"]')
    assert opener is not None
    noise = encrypt(b"e30.e30.AA", decryption_key(EC, 9)).encode()
    results = await asyncio.gather(
        *(opener.decrypt(noise) for _ in range(20)), return_exceptions=True
    )
    assert [type(one) for one in results] == [TokenRefused] * 8 + [DependencyUnavailable] * 12
    assert places.in_use == 0
    named = encrypt(b"e30.e30.AA", keys[0][0], kid="20").encode()
    results = await asyncio.gather(
        *(opener.decrypt(named) for _ in range(20)), return_exceptions=True
    )
    assert results == [b"e30.e30.AA"] * 20


async def test_where_there_are_few_places_a_token_that_needs_many_is_admitted(
    tmp_path: Path,
) -> None:
    keys = [(decryption_key(EC, n), {"kid": str(n)}) for n in range(20, 28)]
    file = write_jwk(tmp_path, "keys.json", *keys)
    opener = decrypting(tmp_path, FairSemaphore(2), f'decryption_keys = ["{file}"]')
    assert opener is not None
    assert await opener.decrypt(encrypt(b"e30.e30.AA", keys[7][0]).encode()) == b"e30.e30.AA"


async def test_without_a_kid_the_key_that_opened_the_last_token_is_tried_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none whose size or curve is another than the token's."""
    keys = [(decryption_key(EC, n), {"kid": str(n)}) for n in range(20, 24)]
    others = [(decryption_key(EC, n, curve="P-384"), {"kid": str(n)}) for n in range(30, 34)]
    file = write_jwk(tmp_path, "keys.json", *others, *keys)
    opener = decrypting(tmp_path, FairSemaphore(64), f'decryption_keys = ["{file}"]')
    assert opener is not None
    tried = list[str]()
    decrypt_with = Decrypter.decrypt_with

    def counted(self: Decrypter, key: DecryptionKey, token: bytes) -> bytes | None:
        tried.append(key.kid)
        return decrypt_with(self, key, token)

    monkeypatch.setattr(Decrypter, "decrypt_with", counted)
    for _ in range(2):
        await opener.decrypt(encrypt(b"e30.e30.AA", keys[3][0]).encode())
    await opener.decrypt(encrypt(b"e30.e30.AA", others[1][0]).encode())
    assert tried == ["20", "21", "22", "23", "23", "30", "31"]


async def test_a_place_is_given_back_when_a_token_is_refused(tmp_path: Path) -> None:
    file = write_pem(tmp_path, "key.pem", decryption_key(RSA))
    opener = decrypting(tmp_path, FairSemaphore(2), f'decryption_keys = ["{file}"]')
    assert opener is not None
    bad = encrypt(b"e30.e30.AA", decryption_key(RSA, 9)).encode()
    for _ in range(3):
        with pytest.raises(TokenRefused, match=r"^decryption$"):
            await opener.decrypt(bad)
