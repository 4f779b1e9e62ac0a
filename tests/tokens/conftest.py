"""Key caches of providers that a test drives, and tokens that they verify."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from app.config.issuers import IssuerSettings
from app.config.load import load
from app.tokens import signed_jwt
from app.tokens.fetch import new_client
from app.tokens.provider_keys import ProviderKeys
from app.tokens.signed_jwt import SignedClaims
from tests.support.providers.provider import Provider
from tests.support.receiver import config

NewKeys = Callable[..., ProviderKeys]


class Clock:
    """A clock that a test moves: for epoch seconds and for ages alike."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with new_client() as one:
        yield one


@pytest.fixture
async def new_keys(tmp_path: Path, client: httpx.AsyncClient) -> AsyncIterator[NewKeys]:
    """Makes the key cache of a provider, with issuer options and clocks of the test's own."""
    made: list[ProviderKeys] = []

    def make(provider: Provider, options: str = "", clock: Clock | None = None) -> ProviderKeys:
        path = tmp_path / f"settings-{len(made)}.toml"
        path.write_text(config("redis://127.0.0.1", f'issuer = "{provider.issuer}"\n{options}'))
        issuer: IssuerSettings = load(path, {}).issuers[0]
        clock = clock or Clock()
        made.append(ProviderKeys(issuer, client, clock=clock, monotonic=clock))
        return made[-1]

    yield make
    for keys in made:
        await keys.aclose()


async def verify(keys: ProviderKeys, token: str) -> SignedClaims:
    jwt = signed_jwt.parse(token.encode())
    return await keys.verify(jwt, keys.issuer, arrived_at=time.time())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)
