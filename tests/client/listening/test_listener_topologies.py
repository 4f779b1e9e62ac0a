"""A listener when the primary moves (Sentinel, Cluster), and with TLS."""

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest

from backchannel_logout import AppKeys, AsyncListener
from backchannel_logout.redis import connection
from tests.support.apps.listening import RecordingListener, Stream, event, until
from tests.support.receiver import wait_for
from tests.support.servers.redis_server import RedisServer
from tests.support.servers.redis_topologies import Cluster, Sentinels, role
from tests.support.servers.tls_front import behind_tls

pytestmark = pytest.mark.slow

Mode = Literal["group", "broadcast"]
MODES = pytest.mark.parametrize("mode", ["group", "broadcast"])


@MODES
async def test_it_follows_a_sentinel_failover(mode: Mode, tmp_path: Path) -> None:
    with Sentinels(tmp_path / "redis") as sentinels, sentinels.primary.client() as client:
        stream = Stream(client, "shop")
        async with RecordingListener(
            AsyncListener(sentinels.url, app="shop", mode=mode)
        ) as recorder:
            await recorder.began()
            stream.add("s1")
            await recorder.has("s1")
            await asyncio.to_thread(sentinels.fail_over)
            with sentinels.replica.client() as promoted:
                Stream(promoted, "shop").add("s2")
            await recorder.has("s2")


async def test_it_leaves_a_deposed_primary_that_does_not_know_it(tmp_path: Path) -> None:
    """The old primary, frozen while it is deposed, keeps its connections open."""
    with Sentinels(tmp_path / "redis") as sentinels, sentinels.primary.client() as client:
        stream = Stream(client, "shop")
        listener = AsyncListener(sentinels.url, app="shop", mode="group")
        async with RecordingListener(listener) as recorder:
            stream.add("s1")
            await recorder.has("s1")
            sentinels.primary.freeze()
            await asyncio.to_thread(
                wait_for, lambda: role(sentinels.replica) == "master", "it has taken over"
            )
            with sentinels.replica.client() as promoted:
                Stream(promoted, "shop").add("s2")
            await recorder.has("s2")
            sentinels.primary.thaw()


@MODES
async def test_it_follows_a_failover_in_a_cluster(mode: Mode, tmp_path: Path) -> None:
    with Cluster(tmp_path / "redis", replicas=True) as cluster:
        primary, replica = cluster.owners(AppKeys("shop").events)
        with primary.client() as client:
            stream = Stream(client, "shop")
            async with RecordingListener(
                AsyncListener(cluster.url, app="shop", mode=mode)
            ) as recorder:
                await recorder.began()
                stream.add("s1")
                await recorder.has("s1")
                with replica.client() as follower:
                    follower.execute_command("CLUSTER", "FAILOVER")
                    await until(lambda: role(replica) == "master", "the replica has taken over")
                    Stream(follower, "shop").add("s2")
                await recorder.has("s2")
                primary.stop()
                with replica.client() as promoted:
                    Stream(promoted, "shop").add("s3")
                await recorder.has("s3")


async def test_it_takes_a_cluster_client_of_the_app(tmp_path: Path) -> None:
    with Cluster(tmp_path / "redis") as cluster:
        client = connection.connect_async(cluster.url, timeout=5)
        async with RecordingListener(AsyncListener(client, app="shop", mode="group")) as recorder:
            await recorder.began()
            await client.xadd(AppKeys("shop").events, event("shop", "s1").to_fields())  # type: ignore[arg-type,misc]
            await recorder.has("s1")
        assert await client.ping(target_nodes="all")  # type: ignore[misc]
        await client.aclose()


@MODES
async def test_it_speaks_tls_as_an_acl_user(
    mode: Mode, tmp_path: Path, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        options: dict[str, Any] = {"enabled": True, "passwords": ["+secret"]}
        client.acl_setuser("listener", keys=["*"], commands=["+@all"], **options)
        stream = Stream(client, "shop")
        async with behind_tls(redis_server.port, tmp_path) as (port, crt):
            url = f"rediss://listener:secret@127.0.0.1:{port}/0?ssl_ca_certs={crt}"
            async with RecordingListener(AsyncListener(url, app="shop", mode=mode)) as recorder:
                await recorder.began()
                stream.add("s1")
                await recorder.has("s1")
                users = {one["user"] for one in client.client_list()}
                assert "listener" in users
