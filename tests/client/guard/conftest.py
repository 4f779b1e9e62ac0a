"""A guard of each kind, with an app of its own on the shared Redis."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.client.guard.guard_fixture import (
    BlockingGuard,
    NewGuard,
    serve_app,
)
from tests.support.servers.redis_server import RedisServer

numbers = itertools.count()


@pytest.fixture
def app() -> str:
    """An app name that is unique on the shared server."""
    return f"guarded-{next(numbers)}"


@pytest.fixture(params=["sync", "async"])
def new_guard(request: pytest.FixtureRequest, app: str) -> Iterator[NewGuard]:
    askers: list[BlockingGuard] = []

    def new(url: str, **options: Any) -> BlockingGuard:
        askers.append(BlockingGuard(request.param, url, options.pop("app", app), **options))
        return askers[-1]

    yield new
    for asker in askers:
        asker.close()


@pytest.fixture
def store(shared_redis: RedisServer, app: str) -> Iterator[redis.Redis]:
    with serve_app(shared_redis, app) as client:
        yield client
