"""Encrypted tokens wait for their turn, and no more of them than there are places."""

import asyncio
from pathlib import Path

import pytest

from app.errors import DependencyUnavailable, Outage
from app.inbound.decrypting import Decrypting
from app.inbound.load import Places
from app.settings import load
from tests.support.encryption import RSA, decryption_key, encrypt, write_pem
from tests.support.receiver import config

ISSUER = "https://op.example"


def decrypting(directory: Path, places: Places, keys: str = "") -> Decrypting | None:
    path = directory / "settings.toml"
    path.write_text(config("embedded", f'issuer = "{ISSUER}"\n{keys}'))
    return Decrypting.of({ISSUER: load(path, {}).issuers[0]}, places)


def test_without_a_key_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert decrypting(tmp_path, Places(16)) is None


async def test_a_flood_gets_its_share_and_the_rest_is_told_at_once(tmp_path: Path) -> None:
    """And while it is served, others run in between."""
    key = decryption_key(RSA)
    file = write_pem(tmp_path, "key.pem", key)
    places = Places(32)
    opener = decrypting(tmp_path, places, f'decryption_keys = ["{file}"]')
    assert opener is not None
    inner = b"e30.e30.AA"
    token = encrypt(inner, key).encode()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(others())
    flood = [opener.opened(token) for _ in range(100)]
    results = await asyncio.gather(*flood, return_exceptions=True)
    beside.cancel()
    told = [one for one in results if isinstance(one, DependencyUnavailable)]
    assert {one.outage for one in told} == {Outage.OVERLOADED}
    assert [one for one in results if one == inner] == [inner] * 16, "half of the places"
    assert len(told) == 84
    assert turns > 100, "they do not hold the loop"
    places.take("another issuer")  # each place was given back, or there would be fewer
    assert await opener.opened(token) == inner


async def test_a_token_that_is_not_encrypted_passes_as_it_is(tmp_path: Path) -> None:
    file = write_pem(tmp_path, "key.pem", decryption_key(RSA))
    opener = decrypting(tmp_path, Places(16), f'decryption_keys = ["{file}"]')
    assert opener is not None
    token = b"a.b.c"
    assert await opener.opened(token) is token


@pytest.mark.slow
async def test_a_key_of_another_issuer_is_not_lent(tmp_path: Path) -> None:
    """Places and turn are given back when a token is refused, too."""
    file = write_pem(tmp_path, "key.pem", decryption_key(RSA))
    opener = decrypting(tmp_path, Places(2), f'decryption_keys = ["{file}"]')
    assert opener is not None
    for _ in range(5):
        with pytest.raises(Exception, match="encryption_header"):
            await opener.opened(b"....")
