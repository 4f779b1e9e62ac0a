"""A rig with its own keys."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.servers import Rig
from bench.tokens import Mint, minting

Minting = tuple[Rig, Mint]


@pytest.fixture(scope="session")
def minted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minting]:
    if sys.platform != "linux":
        pytest.skip("the bench needs Linux")
    with minting("ES256") as (provider, mint):
        yield Rig(tmp_path_factory.mktemp("rig"), provider), mint


@pytest.fixture
def rig(minted: Minting, tmp_path: Path) -> Rig:
    return Rig(tmp_path, minted[0].provider)


@pytest.fixture
def mint(minted: Minting) -> Mint:
    return minted[1]
