"""Stores and journals that are closed again."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.journal.journal import Journal
from tests.support.revocations import AppStore
from tests.support.servers.redis_server import RedisServer

NewAppStore = Callable[..., AppStore]


@pytest.fixture
async def new_app_store() -> AsyncIterator[NewAppStore]:
    """Create stores on any server: ``new_app_store(server, **options)``."""
    app_stores: list[AppStore] = []

    def make(server: RedisServer, **options: object) -> AppStore:
        app_stores.append(AppStore(server, **options))  # type: ignore[arg-type]
        return app_stores[-1]

    yield make
    for app_store in app_stores:
        await app_store.aclose()


@pytest.fixture
def app_store(new_app_store: NewAppStore, shared_redis: RedisServer) -> AppStore:
    return new_app_store(shared_redis)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """An open journal with room for much."""
    one = Journal(tmp_path / "journal.db", max_bytes=1 << 24)
    await one.open()
    yield one
    await one.close()
