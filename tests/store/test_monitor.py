"""What the monitor concludes about Redis, and when it reports a possible loss."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from app.store.errors import LevelNotReached, RedisAway, RedisFault
from app.store.monitor import RedisMonitor
from app.store.topology import RedisTopology, connect
from tests.support.revocations import AppStore, new_app
from tests.support.servers.redis_server import RedisServer
from tests.support.servers.redis_topologies import SERVICE
from tests.support.store_fixtures import NewAppStore


class Watched:
    def __init__(self, app_store: AppStore) -> None:
        self.app_store = app_store
        self.changes = 0
        self.watch = RedisMonitor(app_store.store, app_store.link, on_change=self._report_change)

    def _report_change(self) -> None:
        self.changes += 1

    @property
    def down(self) -> bool:
        return self.watch.down(self.app_store.app)

    def failed(self, fault: RedisFault) -> None:
        self.watch.failed(self.app_store.app, fault)

    async def look(self) -> tuple[str | None, bool, int]:
        """One check: the error, whether Redis is down, and how many changes were reported."""
        before = self.changes
        await self.watch.look()
        return self.watch.last_error, self.down, self.changes - before


@pytest.fixture
def watched(new_app_store: NewAppStore, redis_server: RedisServer) -> Watched:
    return Watched(new_app_store(redis_server))


async def test_before_the_first_check_the_state_is_unknown_and_writes_are_tried(
    watched: Watched,
) -> None:
    assert (watched.watch.last_error, watched.down) == ("not asked yet", False)
    watched.failed(RedisAway("timeout"))
    assert not watched.down
    assert await watched.look() == (None, False, 1)
    assert await watched.look() == (None, False, 0)


async def test_an_unreachable_redis_is_down_until_a_check_succeeds(
    watched: Watched, redis_server: RedisServer
) -> None:
    await asyncio.to_thread(redis_server.stop, signal.SIGKILL)
    assert await watched.look() == ("ConnectionError", True, 0)
    await asyncio.to_thread(redis_server.start)
    assert watched.down, "there has been no check yet"
    assert await watched.look() == (None, False, 1)


async def test_a_failed_write_marks_redis_as_down_and_its_return_is_reported(
    watched: Watched,
) -> None:
    """Acknowledged writes may be lost: the run id cannot be read."""
    await watched.look()
    watched.failed(LevelNotReached("replicas_0_of_1"))
    assert not watched.down, "it accepts writes"
    watched.failed(RedisAway("timeout"))
    assert watched.down
    assert await watched.look() == (None, False, 1)


Change = Callable[[AppStore], object]
TAKES_NO_WRITES: dict[str, tuple[Change, Change, str]] = {
    "full": (
        lambda app_store: app_store.look.config_set("maxmemory", "1"),
        lambda app_store: app_store.look.config_set("maxmemory", "0"), "OOM"),
    "a replica": (
        lambda app_store: app_store.look.execute_command("REPLICAOF", "127.0.0.1", "1"),
        lambda app_store: app_store.look.execute_command("REPLICAOF", "NO", "ONE"), "READONLY"),
    "too few replicas": (
        lambda app_store: app_store.look.config_set("min-replicas-to-write", "1"),
        lambda app_store: app_store.look.config_set("min-replicas-to-write", "0"), "NOREPLICAS"),
}  # fmt: skip


@pytest.mark.parametrize(("begin", "end", "word"), TAKES_NO_WRITES.values(), ids=TAKES_NO_WRITES)
async def test_a_redis_that_refuses_writes_is_down(
    begin: Callable[[AppStore], object],
    end: Callable[[AppStore], object],
    word: str,
    watched: Watched,
) -> None:
    await watched.look()
    begin(watched.app_store)
    assert await watched.look() == (word, True, 0)
    end(watched.app_store)
    assert await watched.look() == (None, False, 1)


async def test_a_restart_between_two_checks_is_reported(
    watched: Watched, redis_server: RedisServer
) -> None:
    """No write has failed, but the run id has changed."""
    await watched.look()
    await asyncio.to_thread(redis_server.stop)
    await asyncio.to_thread(redis_server.start)
    watched.app_store.look.ping()
    assert (await watched.look())[2] == 1


@pytest.mark.slow
async def test_a_check_of_a_frozen_redis_ends_in_time_and_finds_it_down(
    watched: Watched, redis_server: RedisServer
) -> None:
    await watched.look()
    redis_server.freeze()
    error, down, _ = await watched.look()
    assert (str(error).lower().startswith("timeout"), down) == (True, True)


async def test_one_apps_wrong_meta_does_not_mark_redis_as_down_for_all(
    new_app_store: NewAppStore, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = new_app(), new_app()
    app_store = new_app_store(redis_server, apps={bad: 60, good: 60})
    app_store.look.set(f"bcl:v1:{{{bad}}}:meta", "not a hash")
    watched = Watched(app_store)
    for _ in range(3):
        assert (await watched.look())[:2] == (None, False)
    assert app_store.look.exists(f"bcl:v1:{{{good}}}:meta")
    assert caplog.text.count("app_not_writable") == 1


async def test_without_the_right_to_run_info_only_its_facts_are_missing(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "w", "on", ">pw", "~*", "&*", "+@all", "-info")
    app_store = new_app_store(redis_server, url=redis_server.url.replace("//", "//w:pw@"))
    watched = Watched(app_store)
    assert (await watched.look())[:2] == (None, False)


async def test_a_missing_database_is_down_and_refuses_no_entry(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    """The connection is at fault, not an entry of the journal: none is set aside."""
    app_store = new_app_store(redis_server, url=redis_server.url.replace("/0", "/99"))
    watched = Watched(app_store)
    assert (await watched.look())[1] is True
    (fault,) = await app_store.store.write([app_store.revocation()])
    assert type(fault).__name__ == "RedisUnwilling"


async def test_of_two_sentinels_the_newest_configuration_wins(
    tmp_path: Path,
) -> None:
    """After a split, the Sentinel on the wrong side still names the old primary."""
    old, new = RedisServer(tmp_path / "old").start(), RedisServer(tmp_path / "new").start()
    sentinels = []
    for number, (primary, epoch) in enumerate([(old, 3), (new, 7)]):
        conf = tmp_path / f"sentinel{number}.conf"
        conf.write_text(
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1\n"
            f"sentinel config-epoch {SERVICE} {epoch}\n"
        )
        sentinels.append(RedisServer(tmp_path / f"s{number}", config_file=conf))
    try:
        for sentinel in sentinels:
            sentinel.start()
        for order in (sentinels, sentinels[::-1]):
            hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in order)
            link = RedisTopology(connect(f"redis+sentinel://{hosts}/{SERVICE}/0"))
            for _ in range(3):
                await link.look_up()
                info = await (await link.primary("shop")).info("server")
                assert info["tcp_port"] == new.port
            await link.aclose()
        sentinels[1].freeze()
        link = RedisTopology(connect(f"redis+sentinel://{hosts}/{SERVICE}/0"))
        info = await (await link.primary("shop")).info("server")
        assert info["tcp_port"] == old.port, "an unresponsive Sentinel is not awaited for long"
        await link.aclose()
    finally:
        for server in (*sentinels, old, new):
            server.stop(signal.SIGKILL)


async def test_both_receivers_of_a_flushed_redis_report_the_loss(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    """The first one restores ``meta``; the second one misses its latest marker."""
    app_store = new_app_store(redis_server)
    revocation, changes = app_store.revocation(), []
    first, second = (
        RedisMonitor(
            app_store.store,
            app_store.link,
            on_change=lambda n=n: changes.append(n),
            last=lambda: revocation,
        )  # type: ignore[misc]
        for n in (1, 2)
    )
    await app_store.write()
    for watch in (first, second):
        await watch.look()
    changes.clear()
    for watch in (first, second):
        await watch.look()
    assert changes == []
    app_store.look.flushall()
    for watch in (first, second):
        await watch.look()
    assert changes == [1, 2]
