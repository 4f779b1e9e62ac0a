"""Replay writes every entry to Redis, once, and no entry blocks another."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.config.types import Durability
from app.journal.ack_log import AckLog
from app.journal.files import JournalFiles, copy_of
from app.journal.journal import Journal
from app.journal.recovery import Recovery
from app.journal.replay import Replay, replay
from app.revocation import Once
from app.store.monitor import RedisMonitor
from backchannel_logout import AppKeys
from tests.support.receiver import log_events
from tests.support.revocations import ISS, NOW, AppStore, numbered
from tests.support.servers.redis_server import RedisServer
from tests.support.store_fixtures import NewAppStore


class JournalProcess:
    """One process's journal and replay, without the background tasks."""

    def __init__(self, path: Path, app_store: AppStore) -> None:
        self.app_store = app_store
        self.files = JournalFiles(path)
        self.journal = Journal(self.files.claim(), max_bytes=1 << 24)
        self.accepted = AckLog(copy_of(self.files.own), window=3600, max_bytes=1 << 24)
        self.recovery = Recovery(app_store.store, self.accepted)
        self.watch = RedisMonitor(
            app_store.store, app_store.link, on_change=self.recovery.primary_changed
        )
        self.replay = Replay(
            self.journal, self.files, app_store.store, self.watch, self.accepted, self.recovery,
            alarm_age=3600,
        )  # fmt: skip

    async def open(self) -> "JournalProcess":
        await self.journal.open()
        self.accepted.open()
        return self

    async def close(self) -> None:
        await self.journal.close()
        self.accepted.close()
        self.files.release()

    async def append(self, *numbers: int, **changes: object) -> None:
        await asyncio.gather(
            *(self.journal.append(self.app_store.numbered(n, **changes)) for n in numbers)
        )

    @property
    def depth(self) -> tuple[int, int]:
        return self.journal.depth.waiting, self.journal.depth.set_aside


@pytest.fixture
async def process(
    tmp_path: Path, new_app_store: NewAppStore, redis_server: RedisServer
) -> AsyncIterator[JournalProcess]:
    process = await JournalProcess(tmp_path / "journal.db", new_app_store(redis_server)).open()
    yield process
    await process.close()


async def test_every_pending_entry_is_written_once_and_remembered(
    process: JournalProcess,
) -> None:
    await process.append(*range(450))
    assert await process.replay.replay() is True
    assert process.depth == (0, 0)
    assert len(process.app_store.events()) == 450
    first = process.accepted.read(after=0, limit=1000)
    assert len(first) + len(process.accepted.read(after=first[-1][0], limit=1000)) == 450
    assert await process.replay.replay() is True
    assert len(process.app_store.events()) == 450


async def test_an_entry_that_redis_already_has_gets_no_second_event(
    process: JournalProcess,
) -> None:
    """They were written, but the replies came too late."""
    await process.app_store.store.write([process.app_store.numbered(n) for n in range(3)])
    await process.append(*range(5))
    assert await process.replay.replay() is True
    assert sorted(map(str, process.app_store.sids())) == [f"s{n}" for n in range(5)]


async def test_an_entry_whose_message_window_has_passed_still_writes_its_markers(
    process: JournalProcess,
) -> None:
    """Even twice: neither the cutoff nor the lifetime decreases."""
    passed = Once("j", "s1", "alice", time.time() - 1)
    for _ in range(2):
        await process.append(1, once=passed)
        assert await process.replay.replay() is True
        assert process.app_store.look.get(process.app_store.marker) == str(NOW)
    assert not process.app_store.look.exists(process.app_store.keys.jti(ISS, "j", "s1", "alice"))


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_was_an_hour_off_loses_nothing(
    hours: int, process: JournalProcess
) -> None:
    """Received an hour ago or in an hour, because the clock was set in between."""
    moved = time.time() + hours * 3600
    once = Once("j", "s1", "alice", moved + 300)
    await process.append(1, once=once, received_at=moved, since=moved)
    assert await process.replay.replay() is True
    assert process.app_store.look.get(process.app_store.marker) == str(int(moved))
    assert process.app_store.look.ttl(process.app_store.marker) > 3600


async def test_a_refused_entry_is_set_aside_and_blocks_no_other(process: JournalProcess) -> None:
    """It is written once Redis is repaired and the entry is put back."""
    other = f"{process.app_store.app}-other"
    process.app_store.look.set(AppKeys(other).events, "not a stream")
    for n in range(250):
        await process.journal.append(numbered(n, other))
    await process.append(*range(10))
    await process.replay.replay()
    assert process.depth == (0, 250)
    assert len(process.app_store.events()) == 10
    process.app_store.look.delete(AppKeys(other).events)
    assert await process.replay.replay() is True
    assert process.depth == (0, 250)
    assert await process.journal.put_back() == 250
    assert await process.replay.replay() is True
    assert process.depth == (0, 0)
    assert process.app_store.look.xlen(AppKeys(other).events) == 250


async def test_while_redis_is_down_every_entry_stays_pending(
    process: JournalProcess, redis_server: RedisServer
) -> None:
    await process.append(*range(5))
    await asyncio.to_thread(redis_server.stop, signal.SIGKILL)
    assert await process.replay.replay() is False
    assert process.depth == (5, 0)
    await asyncio.to_thread(redis_server.start)
    assert await process.replay.replay() is True
    assert len(process.app_store.events()) == 5


async def test_a_refused_connection_sets_no_entry_aside(
    tmp_path: Path, new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    """A database number that the server does not have is not the entry's fault."""
    app_store = new_app_store(redis_server, url=redis_server.url.replace("/0", "/99"))
    process = await JournalProcess(tmp_path / "other.db", app_store).open()
    await process.append(1, 2)
    assert await process.replay.replay() is False
    assert process.depth == (2, 0)
    await process.close()


async def test_an_entry_below_the_durability_level_stays(
    tmp_path: Path, new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    app_store = new_app_store(redis_server, durability=Durability("replicas", 1))
    process = await JournalProcess(tmp_path / "other.db", app_store).open()
    await process.append(1, 2)
    assert await process.replay.replay() is False
    assert process.depth == (2, 0)
    assert len(app_store.events()) == 2, "it was written before"
    await process.close()


async def test_the_task_writes_pending_entries_and_those_of_ended_processes(
    tmp_path: Path,
    new_app_store: NewAppStore,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As soon as Redis is back; an error with the file does not end the task."""
    path, app_store = tmp_path / "shared.db", new_app_store(redis_server)
    mine, dead = [await JournalProcess(path, app_store).open() for _ in range(2)]
    await dead.append(1, 2)
    await dead.close()
    await mine.append(3)
    await asyncio.to_thread(redis_server.stop)
    await mine.watch.look()
    task = asyncio.create_task(mine.replay.keep_replaying())
    async with asyncio.timeout(60):
        while mine.depth != (3, 0):
            await asyncio.sleep(0.01)
        await asyncio.to_thread(redis_server.start)
        await mine.watch.look()
        while mine.depth != (0, 0):
            await asyncio.sleep(0.01)
        failed = asyncio.Event()

        async def broken(**_: object) -> None:
            failed.set()
            raise OSError("disk I/O error")

        with monkeypatch.context() as fault:
            fault.setattr(mine.journal, "read", broken)
            await mine.append(5)
            await failed.wait()
        await mine.append(4)
        while mine.depth != (0, 0):
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert sorted(map(str, app_store.sids())) == ["s1", "s2", "s3", "s4", "s5"]
    await mine.close()


# -- at the end ----------------------------------------------------------------------------


async def test_a_drain_writes_pending_entries(
    process: JournalProcess, caplog: pytest.LogCaptureFixture
) -> None:
    await process.append(*range(300))
    await process.replay.drain(20)
    assert process.depth == (0, 0)
    assert not log_events(caplog, "journal", outcome="stopped")


async def test_a_drain_ends_in_time_and_reports_what_remains(
    process: JournalProcess, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await process.append(*range(3))
    await process.journal.append(process.app_store.numbered(9), refused="WRONGTYPE")
    redis_server.freeze()
    await process.replay.drain(0.2)
    assert log_events(caplog, "journal", outcome="stopped", waiting=3, set_aside=1)


async def test_a_drain_survives_a_broken_file(
    process: JournalProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest of the shutdown must continue: the copy is written, and the lock is released."""

    async def broken(*_: object, **__: object) -> None:
        raise OSError("disk I/O error")

    await process.append(1)
    monkeypatch.setattr(process.journal, "remove", broken)
    await process.replay.drain(5)
    assert log_events(caplog, "journal", outcome="stopped", waiting=1)


# -- the alarm -----------------------------------------------------------------------------


async def test_entries_that_need_a_person_are_logged_once_a_minute(
    process: JournalProcess, caplog: pytest.LogCaptureFixture
) -> None:
    process.replay._alarm()
    await process.append(1, received_at=time.time() - 3000)
    process.replay._alarm()
    assert not log_events(caplog, "journal", outcome="alarm")
    await process.journal.append(process.app_store.numbered(9), refused="WRONGTYPE")
    process.replay._alarm()
    process.replay._alarm()
    alarms = log_events(caplog, "journal", outcome="alarm", fault=None, waiting=1, set_aside=1)
    assert len(alarms) == 1


async def test_entries_that_are_pending_for_too_long_raise_an_alarm(
    process: JournalProcess, caplog: pytest.LogCaptureFixture
) -> None:
    await process.append(1, received_at=time.time() - 3700)
    process.replay._alarm()
    assert log_events(caplog, "journal", outcome="alarm", fault=None, waiting=1, set_aside=0)


async def test_an_app_without_write_permission_does_not_block_the_others(
    process: JournalProcess, redis_server: RedisServer, new_app_store: NewAppStore
) -> None:
    """Its entries come first, and are more than one round trip takes."""
    allowed = f"~*{{{process.app_store.app}}}*"
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "w", "on", ">pw", allowed, "&*", "+@all")
    url = redis_server.url.replace("//", "//w:pw@")
    app_store = new_app_store(redis_server, url=url)
    for n in range(250):
        await process.journal.append(numbered(n, "forbidden"))
    await process.append(1)
    assert await replay(process.journal, app_store.store, process.accepted) is False
    assert process.app_store.sids() == ["s1"]
    assert process.depth == (250, 0)


async def test_an_entry_that_cannot_be_removed_is_still_written_once(
    process: JournalProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: otherwise every pass or the next start would add the events again."""
    passed = Once("j", "s1", "alice", time.time() - 1)
    await process.journal.append(process.app_store.numbered(9), refused="WRONGTYPE")
    await process.append(1, once=passed)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("app.journal.segment_log.Segment.write", full)
        for _ in range(3):
            assert await process.replay.replay() is True
        assert len(process.app_store.events()) == 1
        assert process.depth == (0, 1)
    await process.journal.refresh()
    await process.append(2)
    assert await process.replay.replay() is True
    assert process.depth == (0, 1)
    assert len(process.app_store.events()) == 2
    await process.journal.close()
    process.journal = Journal(process.journal.path, max_bytes=1 << 24)
    await process.journal.open()
    assert process.depth == (0, 1)
