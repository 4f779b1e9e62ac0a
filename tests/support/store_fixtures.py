"""Stores and journals that are closed again."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.journal.journal import Journal
from tests.support.redis_server import RedisServer
from tests.support.revocations import Shelf

NewShelf = Callable[..., Shelf]


@pytest.fixture
async def new_shelf() -> AsyncIterator[NewShelf]:
    """Shelves on any server: ``new_shelf(server, **options)``."""
    shelves: list[Shelf] = []

    def make(server: RedisServer, **options: object) -> Shelf:
        shelves.append(Shelf(server, **options))  # type: ignore[arg-type]
        return shelves[-1]

    yield make
    for shelf in shelves:
        await shelf.aclose()


@pytest.fixture
def shelf(new_shelf: NewShelf, shared_redis: RedisServer) -> Shelf:
    return new_shelf(shared_redis)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """An open journal with room for much."""
    one = Journal(tmp_path / "journal.db", max_bytes=1 << 24)
    await one.open()
    yield one
    await one.close()
