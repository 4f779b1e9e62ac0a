"""Durability levels, with real replicas and a real append-only file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.config.types import Durability
from app.store import durability, store
from app.store.errors import NO_FILE_TO_SYNC, WAITAOF_MISSING, LevelNotReached
from app.store.monitor import RedisMonitor
from app.store.store import NEW_MARKER
from backchannel_logout import AppKeys
from tests.support.receiver import wait_for
from tests.support.revocations import ISS, AppStore, numbered
from tests.support.servers.redis_server import RedisServer, free_port
from tests.support.servers.redis_topologies import Cluster
from tests.support.store_fixtures import NewAppStore

FSYNC = Durability("fsync", 0)
ONE_REPLICA = Durability("replicas", 1)

Answers = Callable[[str], object]


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stalled machine must not cause a timeout."""
    monkeypatch.setattr(durability, "_LEVEL_SECONDS", 2.0)
    monkeypatch.setattr(store, "REDIS_SECONDS", 30.0)


@contextmanager
def replica_of(primary: RedisServer, directory: Path) -> Iterator[RedisServer]:
    replica = RedisServer(directory, "--replicaof", "127.0.0.1", str(primary.port)).start()
    try:
        with primary.client() as client:
            client.config_set("repl-diskless-sync-delay", 0)  # otherwise five seconds of waiting
            wait_for(lambda: client.info("replication").get("slave0"), "it is connected")
            wait_for(lambda: client.wait(1, 100) == 1, "the replica follows")
        yield replica
    finally:
        replica.stop()


@pytest.mark.slow
async def test_a_replica_counts_and_a_frozen_one_does_not(
    new_app_store: NewAppStore, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Even for an earlier write: a script that changes nothing still waits."""
    app_store = new_app_store(redis_server, durability=ONE_REPLICA)
    careless = new_app_store(redis_server)
    with replica_of(redis_server, tmp_path / "replica") as replica:
        assert await app_store.write() == NEW_MARKER
        with replica.client() as client:
            assert client.exists(app_store.marker), "the replica has the write before the answer"
        replica.freeze()
        fault = (await app_store.store.write([app_store.numbered(2)]))[0]
        assert isinstance(fault, LevelNotReached)
        assert (str(fault), fault.answer) == ("replicas_0_of_1", NEW_MARKER)
        early = careless.numbered(3)
        assert await careless.store.write([early]) == [NEW_MARKER]
        (repeated,) = await app_store.store.write([early])
        assert isinstance(repeated, LevelNotReached)
        assert repeated.answer == 0
        replica.thaw()
        with redis_server.client() as client:
            wait_for(lambda: client.wait(1, 100) == 1, "the replica follows again")
        assert await app_store.store.write([early, app_store.numbered(2)]) == [0, 0]
    assert app_store.sids() == ["s1", "s2"]


async def test_without_a_replica_the_level_is_not_reached(
    new_app_store: NewAppStore, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durability, "_LEVEL_SECONDS", 0.05)
    app_store = new_app_store(shared_redis, durability=ONE_REPLICA)
    with pytest.raises(LevelNotReached, match="replicas_0_of_1"):
        await app_store.write()
    assert app_store.look.exists(app_store.marker), "written, but not as durably"


async def test_a_synced_file_counts(new_app_store: NewAppStore, shared_redis: RedisServer) -> None:
    shared_redis.require("WAITAOF")
    app_store = new_app_store(shared_redis, durability=FSYNC)
    assert await app_store.write() == NEW_MARKER
    assert await app_store.write() == 0
    results = await app_store.store.write([app_store.numbered(n) for n in range(50)])
    assert results[2:] == [NEW_MARKER] * 48


async def test_without_a_file_the_level_is_not_reached(
    new_app_store: NewAppStore, tmp_path: Path
) -> None:
    server = RedisServer(tmp_path / "redis", "--appendonly", "no").start()
    try:
        server.require("WAITAOF")
        app_store = new_app_store(server, durability=FSYNC)
        with pytest.raises(LevelNotReached, match=NO_FILE_TO_SYNC):
            await app_store.write()
    finally:
        server.stop()


async def test_a_server_without_waitaof_is_reported_before_and_at_a_write(
    new_app_store: NewAppStore, without_waitaof: RedisServer
) -> None:
    server = without_waitaof
    app_store = new_app_store(server, durability=FSYNC)
    watch = RedisMonitor(app_store.store, app_store.link, on_change=lambda: None)
    await watch.look()
    assert (watch.last_error, watch.level_error) == (None, WAITAOF_MISSING)
    with pytest.raises(LevelNotReached, match=WAITAOF_MISSING):
        await app_store.write()
    assert app_store.look.exists(app_store.marker), "written, but not as durably"


async def test_a_server_replaced_by_a_newer_one_is_no_longer_reported(
    new_app_store: NewAppStore, shared_redis: RedisServer, without_waitaof: RedisServer
) -> None:
    shared_redis.require("WAITAOF")
    server = without_waitaof
    app_store = new_app_store(server, durability=FSYNC)
    watch = RedisMonitor(app_store.store, app_store.link, on_change=lambda: None)
    await watch.look()
    assert watch.level_error == WAITAOF_MISSING
    server.stop()
    server.options = ()
    server.start()
    await watch.look()  # notices that its connection has ended
    await watch.look()
    assert (watch.last_error, watch.level_error) == (None, None)


async def test_a_refused_revocation_is_refused_at_every_level(
    new_app_store: NewAppStore, shared_redis: RedisServer
) -> None:
    shared_redis.require("WAITAOF")
    app_store = new_app_store(shared_redis, durability=FSYNC)
    other = f"{app_store.app}-other"
    app_store.look.set(AppKeys(other).events, "not a stream")
    refused, written = await app_store.store.write([numbered(1, other), app_store.numbered(1)])
    assert (str(refused), written) == ("WRONGTYPE", NEW_MARKER)


@pytest.mark.slow
async def test_in_a_cluster_the_replica_of_the_node_that_wrote_counts(tmp_path: Path) -> None:
    """The first node has a replica, the others have none, in either order of the apps."""
    with Cluster(tmp_path / "cluster") as cluster:
        first = cluster.nodes[0]
        replica = RedisServer(tmp_path / "replica", *first.options[:-1], str(free_port())).start()
        try:
            _follow(first, replica)
            by_node = _an_app_on_each(cluster)
            with_replica, without = by_node[0], by_node[1]
            apps = {without: 3600, with_replica: 3600}
            app_store = AppStore(first, cluster.url, apps=apps, durability=ONE_REPLICA)
            durable, other = numbered(1, with_replica), numbered(1, without)
            reached, missed = await app_store.store.write([durable, other])
            assert reached == NEW_MARKER
            assert isinstance(missed, LevelNotReached)
            assert (str(missed), missed.answer) == ("replicas_0_of_1", NEW_MARKER)
            with replica.client() as look:
                look.execute_command("READONLY")
                assert look.exists(AppKeys(with_replica).sid(ISS, "s1"))
            replica.freeze()
            careless = AppStore(first, cluster.url, apps=apps)
            early = numbered(2, with_replica)
            assert await careless.store.write([early]) == [NEW_MARKER]
            # On a connection that has written nothing itself; the write changes nothing.
            fresh = AppStore(first, cluster.url, apps=apps, durability=ONE_REPLICA)
            (repeated,) = await fresh.store.write([early])
            assert isinstance(repeated, LevelNotReached)
            for opened in (app_store, careless, fresh):
                await opened.aclose()
        finally:
            replica.stop()


def _follow(primary: RedisServer, replica: RedisServer) -> None:
    """Make a node of the Cluster the replica of another."""
    with primary.client() as client, replica.client() as follower:
        own_id = client.execute_command("CLUSTER", "MYID")
        bus = primary.options[-1]
        follower.execute_command("CLUSTER", "MEET", "127.0.0.1", primary.port, bus)
        wait_for(lambda: own_id in str(follower.execute_command("CLUSTER", "NODES")), "they met")
        follower.execute_command("CLUSTER", "REPLICATE", own_id)
        wait_for(lambda: client.wait(1, 100) == 1, "the replica follows")


def _an_app_on_each(cluster: Cluster) -> list[str]:
    apps: dict[int, str] = {}
    with cluster.nodes[0].client() as client:
        share = 16384 // len(cluster.nodes) + 1
        for n in range(100):
            slot = client.execute_command("CLUSTER", "KEYSLOT", AppKeys(f"app-{n}").meta)
            apps.setdefault(slot // share, f"app-{n}")
    return [apps[n] for n in range(len(cluster.nodes))]
