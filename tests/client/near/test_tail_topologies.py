"""The near cache when the primary moves (Sentinel, Cluster), and behind TLS, with real servers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from random import Random

import pytest
import redis

from app.store.errors import RedisFault
from backchannel_logout import RevocationUnknown, Session
from tests.client.conftest import NewWarmGuard
from tests.support.apps.guards import ALICE, NEIGHBOUR, WarmGuard, patiently
from tests.support.apps.listening import until
from tests.support.revocations import ISS, NOW, AppStore
from tests.support.servers.proxy import Proxy
from tests.support.servers.redis_server import RedisServer
from tests.support.servers.redis_topologies import Cluster, Sentinels, role
from tests.support.servers.tls_front import behind_tls

pytestmark = pytest.mark.slow

BOB = Session(ISS, NOW - 10, sid="s3", sub="bob")


@contextlib.asynccontextmanager
async def served(server: RedisServer, url: str) -> AsyncIterator[AppStore]:
    app_store = AppStore(server, url)
    try:
        await app_store.write_meta()
        await app_store.store.write([app_store.numbered(9999, sub="nobody")])
        yield app_store
    finally:
        await app_store.aclose()


async def log_out_alice(app_store: AppStore) -> None:
    """As the receiver does: it looks up the primary after each fault."""

    async def write() -> None:
        await app_store.link.look_up()
        await app_store.write(once=None)

    await patiently(write, RedisFault, redis.RedisError, OSError)


async def follows(guard: WarmGuard, app_store: AppStore) -> None:
    """Eventually the guard receives events again: one session is dropped, its neighbour is kept."""
    deadline = time.monotonic() + 60
    for n in count():
        doomed = Session(ISS, NOW - 10, sid=f"s{100 + n}", sub="carol")
        await warm_again(guard, doomed, NEIGHBOUR)
        await app_store.store.write([app_store.numbered(100 + n, sub="carol")])
        await dies(guard, doomed)
        if guard.is_warm(NEIGHBOUR):
            return
        assert time.monotonic() < deadline, "it asks, and is not told"


async def warm_again(guard: WarmGuard, *sessions: Session) -> None:
    await patiently(lambda: guard.warm(*sessions), RevocationUnknown)


async def dies(guard: WarmGuard, session: Session) -> None:
    await patiently(lambda: guard.sees_the_end_of(session), RevocationUnknown)


async def test_after_a_sentinel_failover_the_new_primary_is_followed(
    kind: str, new_warm_guard: NewWarmGuard, tmp_path: Path
) -> None:
    with Sentinels(tmp_path) as sentinels:
        async with served(sentinels.primary, sentinels.url) as app_store:
            guard = new_warm_guard(kind, sentinels.url, app_store.app)
            await guard.warm(ALICE, NEIGHBOUR)
            await asyncio.to_thread(sentinels.fail_over)
            await warm_again(guard, ALICE, NEIGHBOUR, BOB)
            await log_out_alice(app_store)
            await dies(guard, ALICE)
            await follows(guard, app_store)
            with sentinels.replica.client() as new:
                assert new.role()[0] == "master"
                assert new.exists(app_store.marker)


@contextlib.contextmanager
def sentinels_behind_a_door(directory: Path) -> Iterator[tuple[Sentinels, Proxy]]:
    """Every client finds the primary at a proxy."""
    with contextlib.ExitStack() as stack:
        doors: list[Proxy] = []

        def behind_a_door(port: int) -> int:
            doors.append(stack.enter_context(Proxy(port, Random(1))))  # noqa: S311
            return doors[-1].port

        yield stack.enter_context(Sentinels(directory, seen_at=behind_a_door)), doors[0]


def only_apps_reach(door: Proxy) -> None:
    """Sentinel and replica lose the primary; guards and receiver do not."""
    # The first command of redis-py, and of a tail; Sentinel and replica begin with another.
    door.fall_silent(keep=lambda first: b"HELLO" in first or b"XREVRANGE" in first, late=True)


async def test_a_failover_to_a_replica_that_was_behind_empties_the_cache(
    kind: str, new_warm_guard: NewWarmGuard, tmp_path: Path
) -> None:
    """The replica lacks an event that the cache has already applied."""
    with sentinels_behind_a_door(tmp_path) as (sentinels, door):
        async with served(sentinels.primary, sentinels.url) as app_store:
            guard = new_warm_guard(kind, sentinels.url, app_store.app, max_stale=60)
            await guard.warm(ALICE, NEIGHBOUR, BOB)
            only_apps_reach(door)
            await app_store.write()
            await guard.sees_the_end_of(ALICE)
            await asyncio.to_thread(sentinels.primary.stop)
            await until(lambda: role(sentinels.replica) == "master", "it has taken over")
            with sentinels.replica.client() as new:
                assert not new.exists(app_store.marker), "it was behind"
                new.set(app_store.keys.sub(ISS, "bob"), NOW)  # of which no event tells
            await dies(guard, BOB)
            await log_out_alice(app_store)  # as the receiver replays its copy
            await dies(guard, ALICE)
            door.heal()


async def test_an_old_primary_that_goes_on_answering_is_believed_for_max_stale_at_most(
    kind: str, new_warm_guard: NewWarmGuard, tmp_path: Path
) -> None:
    """The Sentinel cannot reach it, but the app can, and its role is still `master`."""
    with sentinels_behind_a_door(tmp_path) as (sentinels, door):
        async with served(sentinels.primary, sentinels.url) as app_store:
            guard = new_warm_guard(kind, sentinels.url, app_store.app, max_stale=2)
            await guard.warm(ALICE, NEIGHBOUR)
            only_apps_reach(door)
            await until(lambda: role(sentinels.replica) == "master", "the replica has taken over")
            with sentinels.replica.client() as new:
                new.set(app_store.marker, NOW)
                new.xadd(app_store.keys.events, {"v": "1", "kind": "all", "iss": ISS})
            assert role(sentinels.primary) == "master", "it does not know"
            await dies(guard, ALICE)
            await warm_again(guard, NEIGHBOUR)
            assert await guard.is_revoked(ALICE)
            assert role(sentinels.primary) == "master", "it still does not"
            door.heal()


async def test_a_slot_that_moves_to_another_node_is_followed(
    kind: str, new_warm_guard: NewWarmGuard, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        async with served(cluster.nodes[0], cluster.url) as app_store:
            guard = new_warm_guard(kind, cluster.url, app_store.app)
            await guard.warm(ALICE, NEIGHBOUR)
            await app_store.write(sid="s3", once=None)
            await guard.sees_the_end_of(BOB)
            await asyncio.to_thread(move_slot, cluster, app_store.keys.events)
            await warm_again(guard, ALICE, NEIGHBOUR)
            assert await guard.is_revoked(BOB)
            await log_out_alice(app_store)
            await dies(guard, ALICE)
            await follows(guard, app_store)


def move_slot(cluster: Cluster, key: str) -> None:
    """Move the slot of this key, with its data, to the next node."""
    clients = [node.client() for node in cluster.nodes]
    slot = clients[0].cluster("keyslot", key)
    ids = [client.execute_command("CLUSTER", "MYID") for client in clients]
    owner = next(n for n, client in enumerate(clients) if has(client, slot))
    to = (owner + 1) % len(clients)
    clients[to].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[owner])
    clients[owner].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to])
    while keys := clients[owner].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
        port = cluster.nodes[to].port
        clients[owner].execute_command("MIGRATE", "127.0.0.1", port, keys[0], 0, 5000)
        time.sleep(0.3)  # some on each node
    for n in (to, owner, 3 - to - owner):
        clients[n].execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[to])
    for client in clients:
        client.close()


def has(client: redis.Redis, slot: int) -> bool:
    try:
        client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1)
        [mine] = [n for n in client.cluster("nodes").values() if "myself" in n["flags"]]
        return any(int(first) <= slot <= int(last) for first, last in mine["slots"])
    except redis.ResponseError:
        return False


async def test_after_a_failover_in_a_cluster_the_new_primary_is_followed(
    kind: str, new_warm_guard: NewWarmGuard, tmp_path: Path
) -> None:
    with Cluster(tmp_path, replicas=True) as cluster:
        async with served(cluster.nodes[0], cluster.url) as app_store:
            primary, replica = cluster.owners(app_store.keys.events)
            guard = new_warm_guard(kind, cluster.url, app_store.app)
            await guard.warm(ALICE, NEIGHBOUR)
            with replica.client() as client:
                client.execute_command("CLUSTER", "FAILOVER")
            await until(lambda: role(replica) == "master", "the replica has taken over")
            await until(lambda: role(primary) == "slave", "the old primary has stepped back")
            await warm_again(guard, ALICE, NEIGHBOUR)
            await log_out_alice(app_store)
            await dies(guard, ALICE)
            await follows(guard, app_store)


# -- TLS -----------------------------------------------------------------------------------


async def test_the_stream_is_followed_through_tls(
    kind: str, new_warm_guard: NewWarmGuard, tmp_path: Path, redis_server: RedisServer
) -> None:
    async with (
        behind_tls(redis_server.port, tmp_path) as (port, crt),
        served(redis_server, redis_server.url) as app_store,
    ):
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={crt}"
        guard = new_warm_guard(kind, url, app_store.app)
        await guard.warm(ALICE, NEIGHBOUR)
        await app_store.write()
        await guard.sees_the_end_of(ALICE)
        assert guard.is_warm(NEIGHBOUR)
        await guard.aclose()
