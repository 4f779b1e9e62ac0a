"""What the journal took comes to Redis: all of it, once, and nobody blocks another."""

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
from tests.support.redis_server import RedisServer
from tests.support.revocations import ISS, NOW, AppStore, numbered
from tests.support.store_fixtures import NewAppStore


class Desk:
    """One process's parts of it, without its loops."""

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

    async def open(self) -> "Desk":
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
async def desk(
    tmp_path: Path, new_app_store: NewAppStore, redis_server: RedisServer
) -> AsyncIterator[Desk]:
    one = await Desk(tmp_path / "journal.db", new_app_store(redis_server)).open()
    yield one
    await one.close()


async def test_everything_that_waits_is_written_once_and_remembered(desk: Desk) -> None:
    await desk.append(*range(450))
    assert await desk.replay.replay() is True
    assert desk.depth == (0, 0)
    assert len(desk.app_store.events()) == 450
    first = desk.accepted.read(after=0, limit=1000)
    assert len(first) + len(desk.accepted.read(after=first[-1][0], limit=1000)) == 450
    assert await desk.replay.replay() is True
    assert len(desk.app_store.events()) == 450


async def test_what_redis_had_already_has_no_second_event(desk: Desk) -> None:
    """It was written, and its answer came too late."""
    await desk.app_store.store.write([desk.app_store.numbered(n) for n in range(3)])
    await desk.append(*range(5))
    assert await desk.replay.replay() is True
    assert sorted(map(str, desk.app_store.sids())) == [f"s{n}" for n in range(5)]


async def test_an_entry_whose_message_window_has_passed_still_writes_its_markers(
    desk: Desk,
) -> None:
    """Twice as well: neither a lower cutoff nor a shorter life follows."""
    passed = Once("j", "s1", "alice", time.time() - 1)
    for _ in range(2):
        await desk.append(1, once=passed)
        assert await desk.replay.replay() is True
        assert desk.app_store.look.get(desk.app_store.marker) == str(NOW)
    assert not desk.app_store.look.exists(desk.app_store.keys.jti(ISS, "j", "s1", "alice"))


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_was_an_hour_off_loses_nothing(hours: int, desk: Desk) -> None:
    """Received an hour ago or from now, by whoever has set the clock since."""
    moved = time.time() + hours * 3600
    once = Once("j", "s1", "alice", moved + 300)
    await desk.append(1, once=once, received_at=moved, since=moved)
    assert await desk.replay.replay() is True
    assert desk.app_store.look.get(desk.app_store.marker) == str(int(moved))
    assert desk.app_store.look.ttl(desk.app_store.marker) > 3600


async def test_one_that_is_refused_is_set_aside_and_blocks_nobody(desk: Desk) -> None:
    """And is written after all when somebody has mended Redis and put it back."""
    other = f"{desk.app_store.app}-other"
    desk.app_store.look.set(AppKeys(other).events, "not a stream")
    for n in range(250):
        await desk.journal.append(numbered(n, other))
    await desk.append(*range(10))
    await desk.replay.replay()
    assert desk.depth == (0, 250)
    assert len(desk.app_store.events()) == 10
    desk.app_store.look.delete(AppKeys(other).events)
    assert await desk.replay.replay() is True
    assert desk.depth == (0, 250)
    assert await desk.journal.put_back() == 250
    assert await desk.replay.replay() is True
    assert desk.depth == (0, 0)
    assert desk.app_store.look.xlen(AppKeys(other).events) == 250


async def test_while_redis_is_away_everything_waits(desk: Desk, redis_server: RedisServer) -> None:
    await desk.append(*range(5))
    await asyncio.to_thread(redis_server.stop, signal.SIGKILL)
    assert await desk.replay.replay() is False
    assert desk.depth == (5, 0)
    await asyncio.to_thread(redis_server.start)
    assert await desk.replay.replay() is True
    assert len(desk.app_store.events()) == 5


async def test_a_connection_that_is_refused_sets_nothing_aside(
    tmp_path: Path, new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    """A database number that the server does not have is nobody's own fault."""
    app_store = new_app_store(redis_server, url=redis_server.url.replace("/0", "/99"))
    desk = await Desk(tmp_path / "other.db", app_store).open()
    await desk.append(1, 2)
    assert await desk.replay.replay() is False
    assert desk.depth == (2, 0)
    await desk.close()


async def test_what_is_not_as_durable_as_it_should_be_stays(
    tmp_path: Path, new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    app_store = new_app_store(redis_server, durability=Durability("replicas", 1))
    desk = await Desk(tmp_path / "other.db", app_store).open()
    await desk.append(1, 2)
    assert await desk.replay.replay() is False
    assert desk.depth == (2, 0)
    assert len(app_store.events()) == 2, "it is there already"
    await desk.close()


async def test_the_task_brings_what_waits_and_what_the_dead_have_left(
    tmp_path: Path,
    new_app_store: NewAppStore,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As soon as Redis is there; a fault of the file does not end it."""
    path, app_store = tmp_path / "shared.db", new_app_store(redis_server)
    mine, dead = [await Desk(path, app_store).open() for _ in range(2)]
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


async def test_a_drain_brings_what_waits(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    await desk.append(*range(300))
    await desk.replay.drain(20)
    assert desk.depth == (0, 0)
    assert not log_events(caplog, "journal", outcome="stopped")


async def test_a_drain_ends_in_time_and_says_what_remains(
    desk: Desk, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.append(*range(3))
    await desk.journal.append(desk.app_store.numbered(9), refused="WRONGTYPE")
    redis_server.freeze()
    await desk.replay.drain(0.2)
    assert log_events(caplog, "journal", outcome="stopped", waiting=3, set_aside=1)


async def test_a_drain_survives_a_broken_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest of the stop must go on: the copy is to be written, the lock to be released."""

    async def broken(*_: object, **__: object) -> None:
        raise OSError("disk I/O error")

    await desk.append(1)
    monkeypatch.setattr(desk.journal, "remove", broken)
    await desk.replay.drain(5)
    assert log_events(caplog, "journal", outcome="stopped", waiting=1)


# -- the alarm -----------------------------------------------------------------------------


async def test_what_needs_a_person_is_said_once_a_minute(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.replay._alarm()
    await desk.append(1, received_at=time.time() - 3000)
    desk.replay._alarm()
    assert not log_events(caplog, "journal", outcome="alarm")
    await desk.journal.append(desk.app_store.numbered(9), refused="WRONGTYPE")
    desk.replay._alarm()
    desk.replay._alarm()
    alarms = log_events(caplog, "journal", outcome="alarm", fault=None, waiting=1, set_aside=1)
    assert len(alarms) == 1


async def test_entries_that_wait_for_too_long_are_an_alarm(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await desk.append(1, received_at=time.time() - 3700)
    desk.replay._alarm()
    assert log_events(caplog, "journal", outcome="alarm", fault=None, waiting=1, set_aside=0)


async def test_an_app_that_may_not_be_written_does_not_keep_back_the_others(
    desk: Desk, redis_server: RedisServer, new_app_store: NewAppStore
) -> None:
    """Its entries stand in front, more than one round trip takes."""
    allowed = f"~*{{{desk.app_store.app}}}*"
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "w", "on", ">pw", allowed, "&*", "+@all")
    url = redis_server.url.replace("//", "//w:pw@")
    app_store = new_app_store(redis_server, url=url)
    for n in range(250):
        await desk.journal.append(numbered(n, "forbidden"))
    await desk.append(1)
    assert await replay(desk.journal, app_store.store, desk.accepted) is False
    assert desk.app_store.sids() == ["s1"]
    assert desk.depth == (250, 0)


async def test_what_a_disk_does_not_let_go_is_written_once_all_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: else every pass would add the events again, or the next start."""
    passed = Once("j", "s1", "alice", time.time() - 1)
    await desk.journal.append(desk.app_store.numbered(9), refused="WRONGTYPE")
    await desk.append(1, once=passed)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("app.journal.segment_log.Segment.write", full)
        for _ in range(3):
            assert await desk.replay.replay() is True
        assert len(desk.app_store.events()) == 1
        assert desk.depth == (0, 1)
    await desk.journal.refresh()
    await desk.append(2)
    assert await desk.replay.replay() is True
    assert desk.depth == (0, 1)
    assert len(desk.app_store.events()) == 2
    await desk.journal.close()
    desk.journal = Journal(desk.journal.path, max_bytes=1 << 24)
    await desk.journal.open()
    assert desk.depth == (0, 1)
