"""The recovery writes the acknowledged writes that Redis lost, and only those."""

import asyncio
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config.types import Durability
from app.journal.ack_log import AckLog
from app.journal.recovery import Recovery
from app.revocation import Once
from app.store.errors import RedisFault
from app.store.monitor import RedisMonitor
from backchannel_logout import AppKeys
from tests.support.revocations import ISS, AppStore, new_app, numbered
from tests.support.servers.redis_server import RedisServer
from tests.support.servers.redis_topologies import Sentinels
from tests.support.store_fixtures import NewAppStore


class RecoverySetup:
    """A store, its copy, and the monitor that starts the recovery."""

    def __init__(self, app_store: AppStore, accepted: AckLog) -> None:
        self.app_store = app_store
        self.accepted = accepted
        self.ahead = 0.0
        self.losses: list[int] = []
        self.recovery = Recovery(
            app_store.store,
            accepted,
            clock=lambda: time.time() + self.ahead,
            on_lost=self.losses.append,
        )
        self.changes = 0
        self.watch = RedisMonitor(app_store.store, app_store.link, on_change=self._report_change)

    def _report_change(self) -> None:
        self.changes += 1

    async def accept(self, *numbers: int, **changes: object) -> None:
        """Write, and add to the copy, as the writer does."""
        revocations = [self.app_store.numbered(n, **changes) for n in numbers]
        results = await self.app_store.store.write(revocations)
        assert not any(isinstance(result, RedisFault) for result in results)
        for revocation in revocations:
            self.accepted.add_many([revocation])

    async def check(self) -> int:
        """One check by the monitor; returns how often it has reported a change."""
        before = self.changes
        await self.watch.look()
        return self.changes - before

    def missing(self, *numbers: int) -> list[int]:
        keys = AppKeys(self.app_store.app)
        return [n for n in numbers if not self.app_store.look.exists(keys.sid(ISS, f"s{n}"))]


@pytest.fixture
def accepted(tmp_path: Path) -> Iterator[AckLog]:
    ack_log = AckLog(tmp_path / "copy", window=86400, max_bytes=1 << 24)
    ack_log.open()
    yield ack_log
    ack_log.close()


@pytest.fixture
async def setup(
    new_app_store: NewAppStore, redis_server: RedisServer, accepted: AckLog
) -> RecoverySetup:
    recovery = RecoverySetup(new_app_store(redis_server), accepted)
    assert await recovery.check() == 1, "at the start it may be another server than before"
    return recovery


async def test_without_a_loss_nothing_is_written_twice(setup: RecoverySetup) -> None:
    await setup.accept(*range(5))
    assert await setup.recovery.recover() == 0
    assert setup.app_store.sids() == [f"s{n}" for n in range(5)]
    assert setup.losses == []
    assert await setup.check() == 0


@pytest.mark.slow
async def test_the_recovery_ends_while_logouts_keep_arriving(setup: RecoverySetup) -> None:
    """Otherwise it would never catch up under load, and would write everything twice."""

    async def keep_accepting() -> None:
        while True:
            for n in range(24):  # faster than it compares: ten more before the first is compared
                setup.accepted.add_many([setup.app_store.numbered(n % 10)])
            await asyncio.sleep(0.001)

    await setup.accept(*range(10))
    load = asyncio.create_task(keep_accepting())
    try:
        async with asyncio.timeout(60):
            assert await setup.recovery.recover() == 0
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)


async def test_a_redis_that_restarts_with_its_file_has_lost_nothing(
    setup: RecoverySetup, redis_server: RedisServer
) -> None:
    await setup.accept(*range(5))
    await asyncio.to_thread(redis_server.stop)
    await asyncio.to_thread(redis_server.start)
    assert await setup.check() == 1
    assert await setup.recovery.recover() == 0
    assert len(setup.app_store.events()) == 5


async def test_a_redis_that_returns_empty_gets_everything(
    setup: RecoverySetup, redis_server: RedisServer
) -> None:
    await setup.accept(*range(300))
    await asyncio.to_thread(redis_server.stop, signal.SIGKILL)
    shutil.rmtree(redis_server.directory)
    await asyncio.to_thread(redis_server.start)
    assert await setup.check() == 1
    assert await setup.recovery.recover() == 300
    assert setup.missing(*range(300)) == []
    assert sorted(setup.app_store.sids(), key=str) == sorted((f"s{n}" for n in range(300)), key=str)
    assert setup.losses == [300]
    assert await setup.recovery.recover() == 0


async def test_a_redis_that_returns_with_an_older_file_gets_the_missing_writes(
    setup: RecoverySetup, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Its file is an older one; the logouts in it get no second event."""
    await setup.accept(1, 2)
    await asyncio.to_thread(redis_server.stop)
    shutil.copytree(redis_server.directory, tmp_path / "backup")
    await asyncio.to_thread(redis_server.start)
    await setup.check()
    await setup.accept(3, 4)
    await asyncio.to_thread(redis_server.stop)
    shutil.rmtree(redis_server.directory)
    shutil.copytree(tmp_path / "backup", redis_server.directory)
    await asyncio.to_thread(redis_server.start)
    assert await setup.check() == 1
    assert setup.missing(1, 2, 3, 4) == [3, 4]
    assert await setup.recovery.recover() == 2
    assert setup.app_store.sids() == ["s1", "s2", "s3", "s4"]


@pytest.mark.parametrize("level", ["memory", "fsync"])
async def test_a_redis_that_was_flushed_gets_everything(
    level: str, new_app_store: NewAppStore, redis_server: RedisServer, accepted: AckLog
) -> None:
    """Without a restart, the missing ``meta`` reveals it, even if a write at a durability level has
    left some of it.
    """
    if level == "fsync":
        redis_server.require("WAITAOF")
    app_store = new_app_store(redis_server, durability=Durability(level, 0))  # type: ignore[arg-type]
    setup = RecoverySetup(app_store, accepted)
    await setup.check()
    await setup.accept(1, 2)
    setup.app_store.look.flushall()
    await setup.accept(3)
    assert await setup.check() == 1
    assert await setup.recovery.recover() == 2
    assert setup.missing(1, 2, 3) == []


async def test_an_app_is_served_again_only_when_its_markers_are_back(
    new_app_store: NewAppStore, redis_server: RedisServer, accepted: AckLog
) -> None:
    """Guards treat a missing ``max_session_age`` as "no answer", and never as "alive"."""
    app_store = new_app_store(redis_server)
    setup = RecoverySetup(app_store, accepted)
    setup.watch = RedisMonitor(
        app_store.store, app_store.link, setup.recovery.primary_changed, holds=setup.recovery.holds
    )
    meta = AppKeys(app_store.app).meta

    async def served() -> bool:
        await setup.watch.look()
        return bool(app_store.look.hexists(meta, "max_session_age"))

    assert await served(), "nothing was ever accepted, so there is nothing to wait for"
    await setup.recovery.recover()
    await setup.accept(1, 2)
    for _ in range(2):
        app_store.look.flushall()
        assert not await served()
        assert not await served(), "a second check changes nothing"
        assert app_store.look.hget(meta, "v") == "1"
        assert app_store.look.ttl(meta) > 0
        assert setup.missing(1, 2) == [1, 2]
        assert await setup.recovery.recover() == 2
        assert await served()
        assert setup.missing(1, 2) == []


async def test_an_app_that_takes_no_writes_does_not_keep_others_from_being_served(
    new_app_store: NewAppStore, redis_server: RedisServer, accepted: AckLog
) -> None:
    other = new_app()
    app_store = new_app_store(redis_server)
    app_store = new_app_store(redis_server, apps={app_store.app: 3600, other: 3600})
    app_store.app = next(app for app in app_store.store.apps if app != other)
    recovery = Recovery(app_store.store, accepted)
    for revocation in (numbered(1, app_store.app), numbered(2, other)):
        await app_store.store.write([revocation])
        accepted.add_many([revocation])
    app_store.look.flushall()
    user = ("ACL", "SETUSER", "default")
    app_store.look.execute_command(*user, "resetkeys", f"~bcl:v1:{{{app_store.app}}}:*")
    recovery.primary_changed()
    assert recovery.holds(app_store.app, lost=False)
    task = asyncio.create_task(recovery.recover())
    while recovery.holds(app_store.app, lost=False):
        await asyncio.sleep(0.01)
    assert recovery.holds(other, lost=False)
    app_store.look.execute_command(*user, "allkeys")
    recovery.primary_changed()
    assert await task == 2
    assert not recovery.holds(other, lost=False)


async def test_writes_older_than_the_last_minutes_are_restored_too(
    setup: RecoverySetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If something of the last minutes was missing."""
    monkeypatch.setattr("app.journal.recovery.RECENT_SECONDS", 0.0)
    monkeypatch.setattr("app.journal.recovery.RECENT_BYTES", 1)
    monkeypatch.setattr(setup.accepted._segments, "_segment_seconds", 0.0)
    await setup.accept(*range(10))
    setup.app_store.look.delete(*[AppKeys(setup.app_store.app).sid(ISS, f"s{n}") for n in (0, 1)])
    assert await setup.recovery.recover() == 0, "the last minutes are complete"
    setup.app_store.look.delete(*[AppKeys(setup.app_store.app).sid(ISS, f"s{n}") for n in (9,)])
    assert await setup.recovery.recover() == 3
    assert setup.missing(*range(10)) == []


async def test_a_fault_in_the_middle_does_not_end_the_comparison(
    setup: RecoverySetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier losses count: everything is still compared."""
    monkeypatch.setattr("app.journal.recovery.RECENT_SECONDS", 0.0)
    monkeypatch.setattr("app.journal.recovery.RECENT_BYTES", 1)
    monkeypatch.setattr(setup.accepted._segments, "_segment_seconds", 0.0)
    await setup.accept(*range(10))
    setup.app_store.look.flushall()
    whole, calls = setup.accepted.read, 0

    def fails_once(*, after: int, limit: int) -> object:
        nonlocal calls
        calls += 1
        if after == 0 and calls < 5:
            raise OSError("a disk")
        return whole(after=after, limit=limit)

    monkeypatch.setattr(setup.accepted, "read", fails_once)
    with pytest.raises(OSError, match="a disk"):
        await setup.recovery.recover()
    calls = 9
    assert await setup.recovery.recover() == 10
    assert setup.missing(*range(10)) == []


async def test_apps_are_held_until_a_comparison_has_finished(
    setup: RecoverySetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in the middle compares nothing."""
    monkeypatch.setattr("app.journal.recovery._FIRST_PAUSE", 0.001)
    await setup.accept(1, 2)
    setup.app_store.look.flushall()
    failures = asyncio.Semaphore(0)
    read = setup.accepted.read

    def failing(**_: object) -> object:
        failures.release()
        raise RuntimeError("a fault")

    monkeypatch.setattr(setup.accepted, "read", failing)
    setup.recovery.primary_changed()
    task = asyncio.create_task(setup.recovery.keep_recovering())
    try:
        async with asyncio.timeout(60):
            for _ in range(3):
                await failures.acquire()
            assert setup.recovery.holds(setup.app_store.app, lost=False)
            monkeypatch.setattr(setup.accepted, "read", read)
            while setup.recovery.holds(setup.app_store.app, lost=False):
                await asyncio.sleep(0.001)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert setup.missing(1, 2) == []


async def test_a_claim_that_looks_like_a_record_is_restored(setup: RecoverySetup) -> None:
    await setup.accept(1, 2, sub="bcl1:0:00000000:")
    setup.app_store.look.flushall()
    assert await setup.recovery.recover() == 2
    assert setup.missing(1, 2) == []


async def test_an_expired_marker_does_not_count_as_lost(setup: RecoverySetup) -> None:
    """In an app with short sessions, expired markers cause no alarm and no second event."""
    await setup.accept(1, 2, max_session_age=60)
    setup.app_store.look.delete(*[AppKeys(setup.app_store.app).sid(ISS, f"s{n}") for n in (1, 2)])
    setup.ahead = 60 + 3600 + 1
    assert await setup.recovery.recover() == 0
    assert len(setup.app_store.events()) == 2
    setup.ahead = 60 + 3600 - 10
    assert await setup.recovery.recover() == 2


async def test_a_write_that_lost_its_message_too_is_restored_after_the_window(
    setup: RecoverySetup,
) -> None:
    await setup.accept(1, once=Once("j", "s1", "alice", time.time() - 1))
    setup.app_store.look.flushall()
    assert await setup.recovery.recover() == 1
    assert setup.missing(1) == []


async def test_a_refused_write_does_not_block_the_others(setup: RecoverySetup) -> None:
    await setup.accept(1, 2)
    other = f"{setup.app_store.app}-other"
    setup.accepted.add_many([numbered(7, other)])
    await setup.accept(3)
    setup.app_store.look.flushall()
    setup.app_store.look.set(AppKeys(other).events, "not a stream")
    assert await setup.recovery.recover() == 3
    assert setup.missing(1, 2, 3) == []


async def test_a_loss_is_found_although_the_durability_level_is_not_reached(
    setup: RecoverySetup, new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    """After a failover the replica is missing, but the new primary has the restored markers."""
    await setup.accept(1, 2)
    setup.app_store.look.flushall()
    strict = new_app_store(redis_server, durability=Durability("replicas", 1))
    losses: list[int] = []
    recovery = Recovery(strict.store, setup.accepted, on_lost=losses.append)
    assert await recovery.recover() == 2
    assert losses == [2]
    assert setup.missing(1, 2) == []


async def test_a_redis_that_fails_during_the_recovery_is_awaited(
    setup: RecoverySetup, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.journal.recovery._FIRST_PAUSE", 0.01)
    await setup.accept(*range(3))
    setup.app_store.look.flushall()
    await asyncio.to_thread(redis_server.stop)
    task = asyncio.create_task(setup.recovery.recover())
    await asyncio.sleep(0.05)
    await asyncio.to_thread(redis_server.start)
    assert await asyncio.wait_for(task, 20) == 3
    assert setup.missing(*range(3)) == []


@pytest.mark.slow
async def test_a_failover_to_a_replica_that_was_behind_loses_nothing(
    tmp_path: Path, new_app_store: NewAppStore, accepted: AckLog
) -> None:
    """The replica is cut off before the last writes, and then promoted."""
    with Sentinels(tmp_path / "redis") as sentinels:
        app_store = new_app_store(sentinels.primary, url=sentinels.url)
        setup = RecoverySetup(app_store, accepted)
        await setup.check()
        await setup.accept(1, 2)
        with sentinels.replica.client() as replica:
            deadline = time.monotonic() + 60
            while not replica.exists(AppKeys(app_store.app).sid(ISS, "s2")):
                assert time.monotonic() < deadline
        sentinels.replica.freeze()
        with sentinels.primary.client() as primary:
            primary.execute_command("CLIENT", "KILL", "TYPE", "replica")  # and nothing in transit
        await setup.accept(3, 4)
        await asyncio.to_thread(sentinels.primary.stop, signal.SIGKILL)
        sentinels.replica.thaw()
        deadline = time.monotonic() + 60
        while not await setup.check():
            assert time.monotonic() < deadline, setup.watch.last_error
            await asyncio.sleep(0.1)
        app_store.look.close()
        app_store.look = sentinels.replica.client()
        assert setup.missing(1, 2, 3, 4) == [3, 4]
        assert await setup.recovery.recover() == 2
        assert setup.missing(1, 2, 3, 4) == []
        assert sorted(map(str, app_store.sids())) == ["s1", "s2", "s3", "s4"]


async def test_an_app_without_write_permission_does_not_block_the_others(
    setup: RecoverySetup,
    new_app_store: NewAppStore,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was removed from the settings and from the user's rules; its logouts come first."""
    monkeypatch.setattr("app.journal.recovery._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("app.journal.recovery._MAX_PAUSE", 0.01)
    for n in range(300):
        setup.accepted.add_many([numbered(1000 + n, "gone")])
    await setup.accept(1, 2)
    setup.app_store.look.flushall()
    with redis_server.client() as admin:
        rule = f"~*{{{setup.app_store.app}}}*"
        admin.execute_command("ACL", "SETUSER", "w", "on", ">pw", rule, "&*", "+@all")
    own = new_app_store(redis_server, url=redis_server.url.replace("//", "//w:pw@"))
    task = asyncio.create_task(Recovery(own.store, setup.accepted).recover())
    async with asyncio.timeout(60):
        while setup.missing(1, 2):
            await asyncio.sleep(0.01)
        with redis_server.client() as admin:
            admin.execute_command("ACL", "SETUSER", "w", "~*")
        assert await task == 302
