"""Apps that have keys in Redis but no client in the settings."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from app.background import end
from app.store import unserved
from app.store.app_meta import META_SECONDS, AppMetas, AppNames
from app.store.other_keys import OtherKeys
from app.store.topology import RedisTopology, connect
from app.store.unserved import Unserved, UnservedApp, UnservedApps, UnservedWatch
from backchannel_logout import AppKeys
from tests.support.servers.redis_server import RedisServer


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[RedisTopology]:
    topology = RedisTopology(connect(redis_server.url))
    yield topology
    await topology.aclose()


@pytest.fixture
def look(redis_server: RedisServer) -> redis.Redis:
    return redis_server.client()


def serve(look: redis.Redis, app: str, *, life: int | None = None) -> None:
    look.hset(AppKeys(app).meta, mapping={"v": "1", "max_session_age": "3600"})
    if life is not None:
        look.expire(AppKeys(app).meta, life)


def report(look: redis.Redis, app: str) -> None:
    look.hset(AppKeys(app).readers, "asks", "{}")


async def test_nothing_is_reported_if_every_app_is_served(
    link: RedisTopology, look: redis.Redis
) -> None:
    for app in ("shop", "wiki"):
        serve(look, app)
        report(look, app)
    assert await UnservedApps(link, ["shop", "wiki"]).find() == Unserved()


async def test_each_meta_and_each_reader_of_another_app_is_named(
    link: RedisTopology, look: redis.Redis
) -> None:
    """Among many keys of all kinds, none of which is reported."""
    for n in range(5000):
        look.set(AppKeys("shop").sid("i", str(n)), 1)
    serve(look, "shop")
    serve(look, "old")
    report(look, "old")
    serve(look, "gone", life=3600)
    report(look, "typo")
    look.hset("bcl:v1:{other}:app:gaps:x", "a", "b")
    look.hset("bcl:v1:{Not an app\x1b[2J}:meta", "v", "1")
    look.set("bcl:v1:{text}:meta", "x")
    unserved_apps = await UnservedApps(link, ["shop"]).find()
    gone = next(app for app in unserved_apps.apps if app.app == "gone")
    assert gone.expires_in == pytest.approx(3600, abs=60)
    assert not gone.elsewhere
    assert [app for app in unserved_apps.apps if app is not gone] == [
        UnservedApp(app="old", has_meta=True, reads=True, for_ever=True),
        UnservedApp(app="typo", has_meta=False, reads=True),
    ]
    assert unserved_apps.complete


async def test_an_app_whose_meta_another_receiver_renews_is_served_elsewhere(
    link: RedisTopology, look: redis.Redis
) -> None:
    other = AppMetas({"theirs": 60}, {"theirs": AppNames()})
    await other.write(await link.primary("theirs"), ["theirs"])
    (app,) = (await UnservedApps(link, ["shop"]).find()).apps
    assert app.elsewhere
    look.expire(AppKeys("theirs").meta, META_SECONDS - 600)
    (app,) = (await UnservedApps(link, ["shop"]).find()).apps
    assert not app.elsewhere


async def test_keys_that_were_not_scanned_are_reported(
    link: RedisTopology, look: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3000):
        look.set(f"k{n}", 1)
    monkeypatch.setattr(unserved, "MAX_KEYS", 1000)
    assert (await UnservedApps(link, []).find()).complete is False
    monkeypatch.setattr(unserved, "MAX_KEYS", 10**6)
    assert (await UnservedApps(link, []).find()).complete is True
    for n in range(unserved.MAX_APPS + 5):
        serve(look, f"app-{n}")
    unserved_apps = await UnservedApps(link, []).find()
    assert (len(unserved_apps.apps), unserved_apps.complete) == (unserved.MAX_APPS, False)


async def test_keys_of_apps_under_other_names_are_measured(
    link: RedisTopology, look: redis.Redis
) -> None:
    serve(look, "shop")
    serve(look, "wiki")
    report(look, "shop")
    look.set(AppKeys("shop").sid("i", "s"), b"x" * 10**6)
    look.xadd(AppKeys("shop").receipts, {"v": b"x" * 10**6})
    look.xadd(AppKeys("shop").dead_letters, {"v": b"x" * 10**6})
    look.set("bcl:v1:{else}:app:x", b"x" * 10**6)
    await assert_measured(link, shop=0, wiki=0)
    look.set("bcl:v1:{shop}:app:x", b"x" * 10**6)
    look.rpush("bcl:v1:{shop}:app:a\nlist", b"x" * 10**6)
    look.hset(AppKeys("shop").gaps("l"), "gap", b"x" * 10**6)
    for n in range(3000):
        look.set(AppKeys("wiki").position(str(n)), b"x" * 1000)
    await assert_measured(link, shop=3 * 10**6, wiki=3 * 10**6)


async def test_other_names_of_any_length_are_measured(
    redis_server: RedisServer, look: redis.Redis
) -> None:
    topology = RedisTopology(connect(redis_server.url, max_connections=4), bounded=True)
    for n in range(30):
        look.set(f"bcl:v1:{{shop}}:app:{n}" + "x" * 10**6, 1)
    await assert_measured(topology, shop=30 * 10**6, wiki=0)
    assert (await UnservedApps(topology, ["shop"]).find()).fault is None
    look.set("bcl:v1:{shop}:app:" + "x" * (20 << 20), 1)
    others = OtherKeys(["shop"])
    assert (await UnservedApps(topology, ["shop"]).find(others=others)).fault == "AnswerTooLarge"
    await topology.aclose()


async def test_without_key_sizes_from_redis_no_size_is_reported(
    redis_server: RedisServer, look: redis.Redis
) -> None:
    look.set("bcl:v1:{shop}:app:x", 1)
    user = ("r", "on", ">pw", "~*", "&*", "+@all", "-memory")
    look.execute_command("ACL", "SETUSER", *user)
    topology = RedisTopology(connect(redis_server.url.replace("//", "//r:pw@")))
    others = OtherKeys(["shop", "wiki"])
    await UnservedApps(topology, ["shop", "wiki"]).find(others=others)
    assert others.sizes() == {"wiki": 0}
    await topology.aclose()


async def assert_measured(link: RedisTopology, **sizes: int) -> None:
    others = OtherKeys(["shop", "wiki"])
    unserved_apps = await UnservedApps(link, ["shop", "wiki"]).find(others=others)
    assert (unserved_apps.fault, unserved_apps.complete) == (None, True)
    assert others.sizes() == pytest.approx(sizes, rel=0.5, abs=1000)


async def test_a_user_without_the_right_to_scan_and_a_redis_that_is_down_are_faults(
    redis_server: RedisServer, look: redis.Redis
) -> None:
    look.execute_command("ACL", "SETUSER", "r", "on", ">pw", "~*", "&*", "+@all", "-scan")
    topology = RedisTopology(connect(redis_server.url.replace("//", "//r:pw@")))
    assert await UnservedApps(topology, []).find() == Unserved(complete=False, fault="NOPERM")
    redis_server.stop()
    assert (await UnservedApps(topology, []).find()).fault is not None
    await topology.aclose()


async def test_an_internal_error_does_not_end_the_checks(
    link: RedisTopology, look: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(look, "old")
    with monkeypatch.context() as broken:
        broken.setattr(unserved, "_app_of", lambda _: 1 / 0)
        watch = UnservedWatch(UnservedApps(link, ["shop"]), every=0.01, pause=0)
        task = asyncio.create_task(watch.keep_looking())
        async with asyncio.timeout(30):
            while watch.found.fault != "internal":
                await asyncio.sleep(0.01)
    async with asyncio.timeout(30):
        while not watch.found.apps:
            await asyncio.sleep(0.01)
    assert [app.app for app in watch.found.apps] == ["old"]
    await end([task])
