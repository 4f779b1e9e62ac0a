"""Shared fixtures. Each test that changes a server gets one of its own."""

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.devtools.embedded_redis import path_with_wheel_first
from tests.support.memory import work_in_memory
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config
from tests.support.servers.redis_server import RedisServer

pytest_plugins = ["tests.faults.report", "tests.support.store_fixtures"]

OUT_OF_REACH = "registry out of reach"
"""The prefix of skip reasons that `.ci/run` allows."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips",
        action="store_true",
        help=f"fail when a test was skipped for another reason than '{OUT_OF_REACH}'",
    )


def pytest_configure() -> None:
    work_in_memory()
    os.environ["PATH"] = path_with_wheel_first()


def pytest_collection_finish() -> None:
    """Objects from before the first test are not collected after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    """Collects garbage after each test, so that a leak fails the test that caused it."""
    yield
    gc.collect()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """A skipped test proves nothing: with --no-skips it is a failure."""
    report = yield
    if report.skipped and item.config.getoption("--no-skips") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(OUT_OF_REACH):
            report.outcome, report.longrepr = "failed", f"--no-skips: was skipped: {reason}"
    return report


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for tests that do not stop or fill it, and use their own app names."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for one test, which may stop, freeze or kill it."""
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


@pytest.fixture
def without_waitaof(shared_redis: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """A server without WAITAOF, like Redis before 7.2."""
    hidden = ("--rename-command", "WAITAOF", "") if shared_redis.knows("WAITAOF") else ()
    server = RedisServer(tmp_path / "old", *hidden).start()
    try:
        yield server
    finally:
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
