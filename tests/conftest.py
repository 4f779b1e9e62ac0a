"""Shared fixtures. Each test that changes a server gets one of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.provider import Provider
from tests.support.receiver import Receiver, config
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for tests that neither stop it nor fill it; they use app names of their own."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to be stopped, frozen, killed."""
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture
def receiver(tmp_path: Path, redis_server: RedisServer, provider: Provider) -> Iterator[Receiver]:
    """A receiver for `provider` (client ``shop-web``, app ``shop``) and `redis_server`."""
    process = Receiver(
        tmp_path / "receiver", config(redis_server.url, f'issuer = "{provider.issuer}"')
    )
    process.start()
    yield process
    process.stop()
