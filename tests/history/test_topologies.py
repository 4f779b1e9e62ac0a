"""Histories from a Cluster and behind Sentinels: each app is read from its primary."""

import asyncio
from pathlib import Path

import pytest

from app.audit import Act, Audit
from app.history import DeliveredEvent, RevocationQuery, State
from app.store.topology import connect
from tests.history.conftest import NewHistory
from tests.support.revocations import ISS, AppStore
from tests.support.servers.redis_topologies import Cluster, Sentinels

pytestmark = pytest.mark.slow


async def test_in_a_cluster_apps_and_keys_outside_of_them_are_found(
    tmp_path: Path, new_history: NewHistory
) -> None:
    with Cluster(tmp_path) as cluster:
        app_stores = [AppStore(cluster.nodes[0], cluster.url) for _ in range(4)]
        history = new_history(cluster.url, *(app_store.app for app_store in app_stores))
        feed = history.feed(since=0)
        for app_store in app_stores:
            await app_store.write_meta()
            await app_store.write()
        client = connect(cluster.url)
        await Audit(client, hash_of).write(Act(act="revoke", who="anna"))
        await client.aclose()
        results = await history.app_histories(RevocationQuery(iss=ISS, sid="s1"))
        assert [result.state for result in results] == [State.REVOKED] * 4
        assert all(result.cause is not None for result in results)
        assert {overview.fault for overview in await history.overviews()} == {None}
        assert len(await history.recent()) == 4
        assert await history.refusals() == []
        assert [entry.who for entry in await history.audit()] == ["anna"]
        followed = set()
        async with asyncio.timeout(60):
            async for item in feed:
                if isinstance(item, DeliveredEvent):
                    followed.add(item.app)
                if len(followed) == 4:
                    break
        for app_store in app_stores:
            await app_store.aclose()


async def test_behind_sentinels_the_feed_continues_at_the_new_primary(
    tmp_path: Path, new_history: NewHistory
) -> None:
    with Sentinels(tmp_path) as sentinels:
        app_store = AppStore(sentinels.primary, sentinels.url)
        await app_store.write_meta()
        await app_store.write(sid="s1", once=None)
        history = new_history(sentinels.url, app_store.app)
        history.live.pause = 0.05
        feed = history.feed(refusals=False, since=0)
        found: list[str | None] = []

        async def follow() -> None:
            async for item in feed:
                assert isinstance(item, DeliveredEvent), item
                assert item.event is not None
                found.append(item.event.sid)

        following = asyncio.create_task(follow())
        await _until(found, "s1")
        await asyncio.to_thread(sentinels.fail_over)
        await _written(app_store)
        await _until(found, "s2")
        assert found == ["s1", "s2"]
        following.cancel()
        await asyncio.wait([following])
        await app_store.aclose()


def hash_of(value: str) -> str:
    return f"hash of {value}"


async def _written(app_store: AppStore) -> None:
    """It reads from the new primary as soon as the link has found it."""
    async with asyncio.timeout(60):
        while True:
            await app_store.link.look_up()
            (result,) = await app_store.store.write([app_store.revocation(sid="s2", once=None)])
            if isinstance(result, int):
                return
            await asyncio.sleep(0.1)


async def _until(found: list[str | None], sid: str) -> None:
    async with asyncio.timeout(60):
        while sid not in found:
            await asyncio.sleep(0.02)
