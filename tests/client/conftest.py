"""Apps that a receiver serves, guards with a near cache, and streams for listeners."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.client.frameworks.asgi_app import NewAsgiApp, asgi_apps
from tests.support.apps.guards import KINDS, WarmGuard
from tests.support.apps.listening import Stream
from tests.support.patience import wait_patiently
from tests.support.revocations import AppStore
from tests.support.servers.redis_server import RedisServer

NewAppStore = Callable[[RedisServer], Awaitable[AppStore]]
NewWarmGuard = Callable[..., WarmGuard]


@pytest.fixture(autouse=True)
def _redis_may_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    wait_patiently(monkeypatch)


@pytest.fixture
async def new_app_store() -> AsyncIterator[NewAppStore]:
    """Apps on any server, each with its ``meta`` and one event about another user: an empty stream
    counts as one that may have lost something."""
    app_stores: list[AppStore] = []

    async def make(server: RedisServer) -> AppStore:
        app_stores.append(AppStore(server))
        await app_stores[-1].write_meta()
        await app_stores[-1].store.write([app_stores[-1].numbered(9999, sub="nobody")])
        return app_stores[-1]

    yield make
    for app_store in app_stores:
        await app_store.aclose()


@pytest.fixture
async def app_store(new_app_store: NewAppStore, shared_redis: RedisServer) -> AppStore:
    return await new_app_store(shared_redis)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def new_warm_guard() -> AsyncIterator[NewWarmGuard]:
    guards: list[WarmGuard] = []

    def make(kind: str, url: Any, app: str, **options: Any) -> WarmGuard:
        guards.append(WarmGuard(kind, url, app, **options))
        return guards[-1]

    yield make
    for guard in guards:
        await guard.aclose()


@pytest.fixture
def stream(shared_redis: RedisServer) -> Iterator[Stream]:
    """The stream of the test's own app."""
    with shared_redis.client() as client:
        yield Stream(client)


@pytest.fixture
async def new_asgi_app(shared_redis: RedisServer) -> AsyncIterator[NewAsgiApp]:
    """Real ASGI apps with the middleware, with the test's own options."""
    async with asgi_apps(shared_redis) as new:
        yield new
