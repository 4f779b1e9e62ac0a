"""Histories of apps that only one test uses."""

import time
from collections.abc import AsyncIterator, Callable

import pytest

from app.config.model import Settings
from app.history import History
from app.store.topology import RedisTopology, connect
from tests.support.patience import wait_patiently
from tests.support.revocations import ISS, AppStore
from tests.support.servers.redis_server import RedisServer

NewHistory = Callable[..., History]


def settings_for(*apps: str, redis_url: str = "redis://127.0.0.1:1/0", iss: str = ISS) -> Settings:
    """Settings of one issuer with a client for each app."""
    clients = [{"client_id": f"{app}-web", "app": app, "max_session_age": 3600} for app in apps]
    return Settings.model_validate(
        {"redis_url": redis_url, "issuers": [{"issuer": iss, "clients": clients}]}
    )


@pytest.fixture(autouse=True)
def _redis_may_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_patiently(monkeypatch)


@pytest.fixture
async def app_store(shared_redis: RedisServer) -> AsyncIterator[AppStore]:
    store = AppStore(shared_redis)
    await store.write_meta()
    yield store
    await store.aclose()


@pytest.fixture
async def new_history() -> AsyncIterator[NewHistory]:
    """A factory for histories of any Redis: ``new_history(url, *apps)``."""
    links: list[RedisTopology] = []

    def make(url: str, *apps: str) -> History:
        links.append(RedisTopology(connect(url)))
        return History(settings_for(*apps), links[-1], clock=time.time)

    yield make
    for link in links:
        await link.aclose()


@pytest.fixture
def history(new_history: NewHistory, app_store: AppStore, shared_redis: RedisServer) -> History:
    """The history of the app_store's app."""
    return new_history(shared_redis.url, app_store.app)
