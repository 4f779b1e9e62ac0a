"""A 200 means that the logout is in Redis or in the journal."""

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from app.config.types import Durability
from app.errors import DependencyUnavailable, Outage
from app.journal.ack_log import AckLog
from app.journal.journal import Journal
from app.journal.pending_log import encode_entry, key_of
from app.publish.quota import Quota
from app.publish.writer import Writer, Written
from app.store.monitor import RedisMonitor
from backchannel_logout import AppKeys
from tests.support.revocations import ISS, AppStore, numbered, revocation
from tests.support.servers.redis_server import RedisServer
from tests.support.store_fixtures import NewAppStore


class WriterSetup:
    def __init__(self, app_store: AppStore, journal: Journal | None, accepted: AckLog) -> None:
        self.app_store = app_store
        self.journal = journal
        self.accepted = accepted
        self.watch = RedisMonitor(app_store.store, app_store.link, on_change=lambda: None)
        self.writer = Writer(app_store.store, self.watch, journal, accepted, Quota(10**6))

    async def write(self, *revocations: Any, seconds: float = 1.8) -> Written:
        until = asyncio.get_running_loop().time() + seconds
        return await self.writer.write(revocations or [self.app_store.revocation()], until=until)

    async def refused(self, *revocations: Any) -> None:
        with pytest.raises(DependencyUnavailable) as outage:
            await self.write(*revocations)
        assert outage.value.outage is Outage.REDIS_UNAVAILABLE

    def remembered(self) -> list[str | None]:
        return [revocation.event.sid for _, revocation in self.accepted.read(after=0, limit=100)]


@pytest.fixture
def accepted() -> Iterator[AckLog]:
    ack_log = AckLog(None, window=3600, max_bytes=1 << 24)
    ack_log.open()
    yield ack_log
    ack_log.close()


@pytest.fixture
def setup(
    new_app_store: NewAppStore, redis_server: RedisServer, journal: Journal, accepted: AckLog
) -> WriterSetup:
    return WriterSetup(new_app_store(redis_server), journal, accepted)


@pytest.fixture
def without_journal(
    new_app_store: NewAppStore, redis_server: RedisServer, accepted: AckLog
) -> WriterSetup:
    """The same, without a journal."""
    return WriterSetup(new_app_store(redis_server), None, accepted)


async def test_a_logout_in_redis_is_accepted_then_repeated_and_remembered_each_time(
    setup: WriterSetup,
) -> None:
    assert await setup.write() is Written.ACCEPTED
    assert await setup.write() is Written.REPEATED
    assert setup.remembered() == ["s1", "s1"], "the first answer may have been another process's"
    assert setup.journal is not None
    assert setup.journal.depth.waiting == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_without_redis_a_logout_goes_to_the_journal(
    how: str, setup: WriterSetup, redis_server: RedisServer
) -> None:
    await setup.watch.look()
    if how == "frozen":
        redis_server.freeze()
    else:
        redis_server.stop(signal.SIGKILL)
    assert await setup.write() is Written.JOURNALED
    assert setup.watch.down(setup.app_store.app), "the next write need not try Redis"
    assert await setup.write() is Written.REPEATED
    assert await setup.write(setup.app_store.numbered(2)) is Written.JOURNALED
    assert setup.journal is not None
    assert setup.journal.depth.waiting == 2
    assert setup.remembered() == [], "Redis has acknowledged nothing"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "replica", "killed"])
async def test_without_redis_and_journal_a_write_is_our_outage(
    how: str, without_journal: WriterSetup, redis_server: RedisServer
) -> None:
    await without_journal.watch.look()
    if how == "full":
        without_journal.app_store.look.config_set("maxmemory", "1")
    elif how == "replica":
        without_journal.app_store.look.execute_command("REPLICAOF", "127.0.0.1", "1")
    else:
        redis_server.stop(signal.SIGKILL)
    await without_journal.refused()
    if how == "full":
        without_journal.app_store.look.config_set("maxmemory", "0")
    elif how == "replica":
        without_journal.app_store.look.execute_command("REPLICAOF", "NO", "ONE")
    else:
        redis_server.start()
    assert await without_journal.write() is Written.ACCEPTED, (
        "without a journal, Redis is always tried"
    )


@pytest.mark.slow
async def test_without_redis_and_room_in_the_journal_a_write_is_our_outage(
    setup: WriterSetup, redis_server: RedisServer
) -> None:
    assert setup.journal is not None
    revocation = setup.app_store.revocation()
    setup.journal._max_bytes = len(encode_entry(revocation, key_of(revocation))) + 10
    await setup.watch.look()
    redis_server.stop(signal.SIGKILL)
    assert await setup.write() is Written.JOURNALED
    await setup.refused(setup.app_store.numbered(2))
    assert await setup.write() is Written.REPEATED
    assert setup.journal.depth.waiting == 1


async def test_a_logout_that_redis_refuses_on_its_own_account_is_set_aside_and_not_acknowledged(
    setup: WriterSetup,
) -> None:
    """The others are written, and the operator who repairs Redis finds it in the journal."""
    other = f"{setup.app_store.app}-other"
    setup.app_store.look.set(AppKeys(other).events, "not a stream")
    await setup.watch.look()
    await setup.refused(numbered(1, other), setup.app_store.numbered(1))
    assert setup.journal is not None
    assert (setup.journal.depth.waiting, setup.journal.depth.set_aside) == (0, 1)
    assert setup.app_store.look.exists(setup.app_store.keys.sid(ISS, "s1"))
    assert not setup.watch.down(setup.app_store.app)
    assert await setup.write(setup.app_store.numbered(2)) is Written.ACCEPTED
    setup.app_store.look.delete(AppKeys(other).events)
    assert await setup.write(numbered(1, other)) is Written.ACCEPTED


async def test_for_several_apps_the_least_durable_write_decides_the_answer(
    setup: WriterSetup,
) -> None:
    await setup.write(setup.app_store.numbered(1))
    both = [setup.app_store.numbered(1), revocation(f"{setup.app_store.app}-b")]
    assert await setup.write(*both) is Written.ACCEPTED
    assert await setup.write(*both) is Written.REPEATED


async def test_a_logout_below_the_durability_level_goes_to_the_journal(
    new_app_store: NewAppStore, redis_server: RedisServer, journal: Journal, accepted: AckLog
) -> None:
    """It does not count as an outage of Redis."""
    app_store = new_app_store(redis_server, durability=Durability("replicas", 1))
    setup = WriterSetup(app_store, journal, accepted)
    await setup.watch.look()
    assert await setup.write() is Written.JOURNALED
    assert app_store.look.exists(app_store.marker)
    assert not setup.watch.down(setup.app_store.app)


async def test_a_request_that_reaches_redis_late_does_not_count_as_an_outage(
    setup: WriterSetup, redis_server: RedisServer
) -> None:
    """A provider whose keys are slow must not send other providers' logouts to the journal."""
    await setup.watch.look()
    redis_server.freeze()
    assert await setup.write(seconds=0.35) is Written.JOURNALED
    assert not setup.watch.down(setup.app_store.app)
    redis_server.thaw()
    assert await setup.write(setup.app_store.numbered(2)) is Written.ACCEPTED


async def test_a_cancelled_request_can_be_repeated(setup: WriterSetup) -> None:
    for turn in range(30):
        revocation = setup.app_store.numbered(turn)
        task = asyncio.create_task(setup.write(revocation))
        for _ in range(turn % 10):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert await setup.write(revocation) in (Written.ACCEPTED, Written.REPEATED)
        assert setup.app_store.look.exists(setup.app_store.keys.sid(ISS, f"s{turn}"))
