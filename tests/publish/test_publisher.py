"""The complete publisher: logouts accepted before a shutdown are written after it."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from app.config.load import load
from app.config.model import Settings
from app.publish.publisher import JournalUnusable, Publisher
from app.publish.writer import Written
from app.store.topology import connect
from backchannel_logout import AppKeys
from tests.support.receiver import log_events
from tests.support.revocations import ISS, new_app, numbered
from tests.support.servers.redis_server import RedisServer


class PublisherSetup:
    def __init__(self, server: RedisServer, directory: Path) -> None:
        self.server = server
        self.app = new_app()
        self.directory = directory

    def settings(self, **changes: str) -> Settings:
        values = {
            "issuer": ISS, "client_id": "shop-web", "app": self.app,
            "redis_url": self.server.url, "data_dir": str(self.directory), "shutdown_grace": "1",
        } | changes  # fmt: skip
        return load(environ={f"BCL_{name.upper()}": value for name, value in values.items()})

    def publisher(self, **changes: str) -> Publisher:
        return Publisher(self.settings(**changes), connect(self.server.url))

    async def write(self, publisher: Publisher, *numbers: int) -> set[Written]:
        until = asyncio.get_running_loop().time() + 1.8
        ones = (publisher.writer.write([numbered(n, self.app)], until=until) for n in numbers)
        return set(await asyncio.gather(*ones))

    def written(self, *numbers: int) -> bool:
        keys = AppKeys(self.app)
        with self.server.client() as look:
            return all(look.exists(keys.sid(ISS, f"s{n}")) for n in numbers)


@pytest.fixture
def setup(redis_server: RedisServer, tmp_path: Path) -> PublisherSetup:
    return PublisherSetup(redis_server, tmp_path / "data")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_a_stop_while_redis_is_down_leaves_the_entries_for_the_next_start(
    setup: PublisherSetup, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = setup.publisher()
    async with publisher.running():
        await until(lambda: publisher.monitor.last_error is None)
        await asyncio.to_thread(setup.server.stop, signal.SIGKILL)
        assert await setup.write(publisher, *range(5)) == {Written.JOURNALED}
    assert log_events(caplog, "journal", outcome="stopped", waiting=5, set_aside=0)
    await asyncio.to_thread(setup.server.start)
    publisher = setup.publisher()
    assert publisher.journal is not None
    assert publisher.journal.path.name == "journal.db", "the lock was released"
    async with publisher.running():
        await until(lambda: setup.written(*range(5)))


@pytest.mark.slow
async def test_a_stop_writes_pending_entries_once_redis_is_back(setup: PublisherSetup) -> None:
    publisher = setup.publisher(shutdown_grace="20")
    async with publisher.running():
        await until(lambda: publisher.monitor.last_error is None)
        setup.server.freeze()
        assert await setup.write(publisher, *range(5)) == {Written.JOURNALED}
        setup.server.thaw()
    assert setup.written(*range(5))
    assert publisher.journal is not None
    assert publisher.journal.depth.waiting == 0


async def test_a_write_acknowledged_at_the_last_moment_is_in_the_copy(
    setup: PublisherSetup,
) -> None:
    """Redis comes back empty after the stop: the next start writes it again."""
    publisher = setup.publisher()
    async with publisher.running():
        assert await setup.write(publisher, 1, 2) == {Written.ACCEPTED}
    with setup.server.client() as look:
        look.flushall()
    async with setup.publisher().running():
        await until(lambda: setup.written(1, 2))


@pytest.mark.slow
async def test_an_empty_redis_is_filled_again_while_the_service_runs(setup: PublisherSetup) -> None:
    publisher = setup.publisher()
    async with publisher.running():
        assert await setup.write(publisher, *range(20)) == {Written.ACCEPTED}
        await until(lambda: publisher.monitor.last_error is None)
        with setup.server.client() as look:
            look.flushall()
        await until(lambda: setup.written(*range(20)))


async def test_without_a_journal_there_are_no_files(setup: PublisherSetup) -> None:
    publisher = setup.publisher(journal="off")
    async with publisher.running():
        assert await setup.write(publisher, 1) == {Written.ACCEPTED}
    assert publisher.journal is None
    assert not setup.directory.exists()


def test_an_impossible_journal_is_reported_at_once(setup: PublisherSetup, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnusable, match=r"file/journal\.db"):
        setup.publisher(journal=str(tmp_path / "file" / "journal.db"))


async def test_a_directory_in_the_journals_place_is_reported_and_closes_everything(
    setup: PublisherSetup, tmp_path: Path
) -> None:
    (tmp_path / "journal.db").mkdir()
    publisher = setup.publisher(journal=str(tmp_path / "journal.db"))
    with pytest.raises(JournalUnusable, match=r"journal\.db"):
        async with publisher.running():
            pass


async def test_an_internal_error_does_not_end_the_checks_for_the_primary(
    setup: PublisherSetup, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = Publisher(
        setup.settings(), connect(setup.server.url), reads=connect(setup.server.url)
    )
    looks = 0

    async def broken() -> None:
        nonlocal looks
        looks += 1
        raise KeyError("unexpected")

    monkeypatch.setattr("app.publish.publisher._LOOK_UP_SECONDS", 0.01)
    monkeypatch.setattr(publisher.reads, "look_up", broken)
    async with publisher.running():
        await until(lambda: looks > 2)
    assert log_events(caplog, "redis", outcome="failed", error="internal")
