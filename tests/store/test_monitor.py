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
        self.told = 0
        self.watch = RedisMonitor(app_store.store, app_store.link, on_change=self._tell)

    def _tell(self) -> None:
        self.told += 1

    @property
    def down(self) -> bool:
        return self.watch.down(self.app_store.app)

    def failed(self, fault: RedisFault) -> None:
        self.watch.failed(self.app_store.app, fault)

    async def look(self) -> tuple[str | None, bool, int]:
        """One look: the error, whether Redis is down, and how often it told of a change."""
        before = self.told
        await self.watch.look()
        return self.watch.last_error, self.down, self.told - before


@pytest.fixture
def watched(new_app_store: NewAppStore, redis_server: RedisServer) -> Watched:
    return Watched(new_app_store(redis_server))


async def test_before_the_first_look_nobody_knows_and_writes_are_tried(watched: Watched) -> None:
    assert (watched.watch.last_error, watched.down) == ("not asked yet", False)
    watched.failed(RedisAway("timeout"))
    assert not watched.down
    assert await watched.look() == (None, False, 1)
    assert await watched.look() == (None, False, 0)


async def test_a_redis_that_is_away_is_down_until_a_look_finds_it(
    watched: Watched, redis_server: RedisServer
) -> None:
    await asyncio.to_thread(redis_server.stop, signal.SIGKILL)
    assert await watched.look() == ("ConnectionError", True, 0)
    await asyncio.to_thread(redis_server.start)
    assert watched.down, "there was no check yet"
    assert await watched.look() == (None, False, 1)


async def test_a_write_that_failed_makes_it_down_and_its_end_is_told(watched: Watched) -> None:
    """Acknowledged writes may be lost: the run id cannot be read."""
    await watched.look()
    watched.failed(LevelNotReached("replicas_0_of_1"))
    assert not watched.down, "it takes writes"
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
async def test_a_redis_that_takes_no_writes_is_down(
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


async def test_a_restart_between_two_looks_is_told(
    watched: Watched, redis_server: RedisServer
) -> None:
    """No write has failed; the run id is another one."""
    await watched.look()
    await asyncio.to_thread(redis_server.stop)
    await asyncio.to_thread(redis_server.start)
    watched.app_store.look.ping()
    assert (await watched.look())[2] == 1


@pytest.mark.slow
async def test_a_frozen_redis_ends_the_look_in_time_and_is_down(
    watched: Watched, redis_server: RedisServer
) -> None:
    await watched.look()
    redis_server.freeze()
    error, down, _ = await watched.look()
    assert (str(error).lower().startswith("timeout"), down) == (True, True)


async def test_one_apps_wrong_meta_does_not_make_redis_down_for_all(
    new_app_store: NewAppStore, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = new_app(), new_app()
    app_store = new_app_store(redis_server, apps={bad: 60, good: 60})
    app_store.look.set(f"bcl:v1:{{{bad}}}:meta", "not a hash")
    watched = Watched(app_store)
    for _ in range(3):
        assert (await watched.look())[:2] == (None, False)
    assert app_store.look.exists(f"bcl:v1:{{{good}}}:meta")
    assert caplog.text.count("meta_refused") == 1


async def test_a_user_who_may_not_run_info_loses_only_what_info_tells(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    with redis_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "w", "on", ">pw", "~*", "&*", "+@all", "-info")
    app_store = new_app_store(redis_server, url=redis_server.url.replace("//", "//w:pw@"))
    watched = Watched(app_store)
    assert (await watched.look())[:2] == (None, False)


async def test_a_database_that_there_is_not_is_down_and_refuses_nobody(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    """The connection is at fault, and no entry of the journal: none is set aside."""
    app_store = new_app_store(redis_server, url=redis_server.url.replace("/0", "/99"))
    watched = Watched(app_store)
    assert (await watched.look())[1] is True
    (fault,) = await app_store.store.write([app_store.revocation()])
    assert type(fault).__name__ == "RedisUnwilling"


async def test_of_two_sentinels_the_one_with_the_newest_configuration_is_believed(
    tmp_path: Path,
) -> None:
    """After a split, the one on the wrong side still names the old primary."""
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
            hosts = ",".join(f"127.0.0.1:{one.port}" for one in order)
            link = RedisTopology(connect(f"redis+sentinel://{hosts}/{SERVICE}/0"))
            for _ in range(3):
                await link.look_up()
                info = await (await link.primary("shop")).info("server")
                assert info["tcp_port"] == new.port
            await link.aclose()
        sentinels[1].freeze()
        link = RedisTopology(connect(f"redis+sentinel://{hosts}/{SERVICE}/0"))
        info = await (await link.primary("shop")).info("server")
        assert info["tcp_port"] == old.port, "one that does not answer is not waited for long"
        await link.aclose()
    finally:
        for server in (*sentinels, old, new):
            server.stop(signal.SIGKILL)


async def test_of_two_who_watch_a_redis_that_was_flushed_both_are_told(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    """The first one restores ``meta``; the second one misses its latest marker."""
    app_store = new_app_store(redis_server)
    one, told = app_store.revocation(), []
    first, second = (
        RedisMonitor(
            app_store.store, app_store.link, on_change=lambda n=n: told.append(n), last=lambda: one
        )  # type: ignore[misc]
        for n in (1, 2)
    )
    await app_store.write()
    for watch in (first, second):
        await watch.look()
    told.clear()
    for watch in (first, second):
        await watch.look()
    assert told == []
    app_store.look.flushall()
    for watch in (first, second):
        await watch.look()
    assert told == [1, 2]
