"""Apps that Redis holds and no client of the settings leads to."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis

from app.publish import unserved
from app.publish.app_meta import META_SECONDS, AppMetas, AppNames
from app.publish.redis_link import RedisLink, connect
from app.publish.unserved import Unserved, UnservedApp, UnservedApps, UnservedWatch
from app.tasks import end
from backchannel_logout import AppKeys
from tests.support.redis_server import RedisServer


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[RedisLink]:
    one = RedisLink(connect(redis_server.url))
    yield one
    await one.aclose()


@pytest.fixture
def look(redis_server: RedisServer) -> redis.Redis:
    return redis_server.client()


def serve(look: redis.Redis, app: str, *, life: int | None = None) -> None:
    look.hset(AppKeys(app).meta, mapping={"v": "1", "max_session_age": "3600"})
    if life is not None:
        look.expire(AppKeys(app).meta, life)


def report(look: redis.Redis, app: str) -> None:
    look.hset(AppKeys(app).readers, "asks", "{}")


async def test_nothing_is_found_where_every_app_is_served(
    link: RedisLink, look: redis.Redis
) -> None:
    for app in ("shop", "wiki"):
        serve(look, app)
        report(look, app)
    assert await UnservedApps(link, ["shop", "wiki"]).find() == Unserved()


async def test_each_meta_and_each_reader_of_another_app_is_named(
    link: RedisLink, look: redis.Redis
) -> None:
    """Among many keys of all kinds, of which none else is."""
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
    found = await UnservedApps(link, ["shop"]).find()
    gone = next(one for one in found.apps if one.app == "gone")
    assert gone.expires_in == pytest.approx(3600, abs=60)
    assert not gone.elsewhere
    assert [one for one in found.apps if one is not gone] == [
        UnservedApp(app="old", has_meta=True, reads=True, for_ever=True),
        UnservedApp(app="typo", has_meta=False, reads=True),
    ]
    assert found.complete


async def test_one_that_another_receiver_renews_is_served_elsewhere(
    link: RedisLink, look: redis.Redis
) -> None:
    other = AppMetas({"theirs": 60}, {"theirs": AppNames()}, clock=time.time)
    await other.write(await link.primary("theirs"), ["theirs"])
    (one,) = (await UnservedApps(link, ["shop"]).find()).apps
    assert one.elsewhere
    look.expire(AppKeys("theirs").meta, META_SECONDS - 600)
    (one,) = (await UnservedApps(link, ["shop"]).find()).apps
    assert not one.elsewhere


async def test_what_is_not_looked_through_is_said(
    link: RedisLink, look: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3000):
        look.set(f"k{n}", 1)
    monkeypatch.setattr(unserved, "MOST_KEYS", 1000)
    assert (await UnservedApps(link, []).find()).complete is False
    monkeypatch.setattr(unserved, "MOST_KEYS", 10**6)
    assert (await UnservedApps(link, []).find()).complete is True
    for n in range(unserved.MOST_APPS + 5):
        serve(look, f"app-{n}")
    found = await UnservedApps(link, []).find()
    assert (len(found.apps), found.complete) == (unserved.MOST_APPS, False)


async def test_a_user_who_may_not_scan_and_a_redis_that_is_away_are_faults(
    redis_server: RedisServer, look: redis.Redis
) -> None:
    look.execute_command("ACL", "SETUSER", "r", "on", ">pw", "~*", "&*", "+@all", "-scan")
    one = RedisLink(connect(redis_server.url.replace("//", "//r:pw@")))
    assert await UnservedApps(one, []).find() == Unserved(complete=False, fault="NOPERM")
    redis_server.stop()
    assert (await UnservedApps(one, []).find()).fault is not None
    await one.aclose()


async def test_a_fault_of_ours_does_not_end_the_watch(
    link: RedisLink, look: redis.Redis, monkeypatch: pytest.MonkeyPatch
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
    assert [one.app for one in watch.found.apps] == ["old"]
    await end([task])
