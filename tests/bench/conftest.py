"""A stage with keys of its own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.servers import Stage
from bench.tokens import Mint, minting

Minting = tuple[Stage, Mint]


@pytest.fixture(scope="session")
def minted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minting]:
    if sys.platform != "linux":
        pytest.skip("the bench needs Linux")
    with minting("ES256") as (provider, mint):
        yield Stage(tmp_path_factory.mktemp("stage"), provider), mint


@pytest.fixture
def stage(minted: Minting, tmp_path: Path) -> Stage:
    return Stage(tmp_path, minted[0].provider)


@pytest.fixture
def mint(minted: Minting) -> Mint:
    return minted[1]
