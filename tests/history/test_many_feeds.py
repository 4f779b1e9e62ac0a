"""Many apps and many feeds: every feed gets everything, over few connections."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from app.history import Cursor, DeliveredEvent, Feed, History, Missed, Unreadable
from backchannel_logout import AppKeys
from tests.history.conftest import NewHistory
from tests.support.revocations import AppStore, revocation
from tests.support.servers.redis_server import RedisServer


def apps_of(prefix: str, number: int) -> list[str]:
    return [f"{prefix}-{n}" for n in range(number)]


def write(server: RedisServer, apps: list[str], number: int, prefix: str = "s") -> list[str]:
    """Write this many logouts, alternating between apps; returns their sessions."""
    sids = [f"{prefix}{n}" for n in range(number)]
    with server.client() as look:
        pipeline = look.pipeline(transaction=False)
        for n, sid in enumerate(sids):
            app = apps[n % len(apps)]
            pipeline.xadd(AppKeys(app).events, revocation(app, sid=sid).event.to_fields())  # type: ignore[arg-type]
        pipeline.execute()
    return sids


class CollectedFeed:
    """The items that a feed has yielded."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.sids: list[str] = []
        self.missed: list[str] = []

    async def collect(self) -> None:
        async for item in self.feed:
            if isinstance(item, Missed):
                self.missed.append(item.app)
            elif isinstance(item, DeliveredEvent) and item.event is not None:
                self.sids.append(item.event.sid or "")


@asynccontextmanager
async def collecting(feeds: list[Feed]) -> AsyncIterator[list[CollectedFeed]]:
    collected = [CollectedFeed(feed) for feed in feeds]
    tasks = [asyncio.create_task(feed.collect()) for feed in collected]
    try:
        yield collected
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def until(condition: object) -> None:
    async with asyncio.timeout(60):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.02)


def begun(collected: list[CollectedFeed], streams: int) -> bool:
    return all(len(feed.feed.cursor) == streams for feed in collected)


async def test_forty_apps_are_all_followed(
    new_history: NewHistory, redis_server: RedisServer
) -> None:
    apps = apps_of("shop", 40)
    history = new_history(redis_server.url, *apps)
    async with collecting([history.feed()]) as (collected,):
        await until(lambda: len(collected.feed.cursor) == 41)
        sids = write(redis_server, apps, 40)
        await until(lambda: len(collected.sids) >= 40)
        assert sorted(collected.sids) == sorted(sids)


@pytest.mark.slow
async def test_each_of_thirty_two_feeds_has_every_logout_of_five_hundred_apps(
    new_history: NewHistory, redis_server: RedisServer
) -> None:
    apps = apps_of("shop", 500)
    history = new_history(redis_server.url, *apps)
    async with collecting([history.feed() for _ in range(32)]) as collected:
        await until(lambda: begun(collected, 501))
        sids = write(redis_server, apps, 400)
        await until(lambda: all(len(feed.sids) >= 400 for feed in collected))
        assert {tuple(sorted(feed.sids)) for feed in collected} == {tuple(sorted(sids))}
        assert not any(feed.missed for feed in collected)
        connected = redis_server.client().client_list()
    names = [feed for feed in connected if feed["name"] == "backchannel-logout-receiver"]
    assert len(names) <= 16, "however many look, they take turns"


async def test_a_feed_that_joins_later_resumes_from_its_own_cursor(
    new_history: NewHistory, redis_server: RedisServer
) -> None:
    apps = apps_of("shop", 40)
    history = new_history(redis_server.url, *apps)
    history.live.pause = 0.02
    async with collecting([history.feed()]) as (first,):
        await until(lambda: len(first.feed.cursor) == 41)
        begin = str(first.feed.cursor)
        before = write(redis_server, apps, 100, "before-")
        await until(lambda: len(first.sids) >= 100)
        async with collecting([history.feed(cursor=Cursor.parse(begin))]) as (second,):
            after = write(redis_server, apps, 100, "after-")
            await until(lambda: len(second.sids) >= 200)
            await until(lambda: len(first.sids) >= 200)
            assert sorted(second.sids) == sorted(first.sids) == sorted(before + after)


async def test_a_slow_feed_misses_nothing(
    new_history: NewHistory, redis_server: RedisServer
) -> None:
    history = new_history(redis_server.url, "shop")
    history.live.pause = 0.02
    slow = history.feed()
    batches = slow.batches()
    found: list[str] = []

    def collect(batch: object) -> None:
        items = slow.deliver(batch)  # type: ignore[arg-type]
        found.extend(
            feed.event.sid or ""
            for feed in items
            if isinstance(feed, DeliveredEvent) and feed.event
        )

    waiting = asyncio.ensure_future(anext(batches))
    await until(lambda: len(slow.cursor) == 2)
    async with collecting([history.feed(cursor=slow.cursor)]) as (quick,):
        sids = write(redis_server, ["shop"], 6000)
        await until(lambda: len(quick.sids) >= 6000)
        collect(await waiting)
        while len(found) < 6000:
            collect(await anext(batches))
        assert found == quick.sids == sids
    await batches.aclose()


async def test_simultaneous_callers_share_one_read_of_the_ends(
    new_history: NewHistory, redis_server: RedisServer
) -> None:
    apps = apps_of("shop", 40)
    history = new_history(redis_server.url, *apps)
    with redis_server.client() as look:
        look.config_resetstat()
        found = await asyncio.gather(*(history.feed_ends() for _ in range(32)))
        calls = look.info("commandstats")["cmdstat_xrevrange"]["calls"]
        assert calls <= 2 * 41
        assert all(feed == found[0] for feed in found)
        # A caller after a write sees it.
        write(redis_server, apps, 1)
        assert (await history.feed_ends())[apps[0]] != found[0][apps[0]]
        redis_server.stop()
        answers = await asyncio.gather(
            *(history.feed_ends() for _ in range(32)), return_exceptions=True
        )
    assert {type(feed) for feed in answers} == {Unreadable}


async def test_reading_ends_with_the_last_feed(
    new_history: NewHistory, redis_server: RedisServer
) -> None:
    history = new_history(redis_server.url, "shop")
    history.live.pause = 0.02
    async with collecting([history.feed()]) as (collected,):
        await until(lambda: len(collected.feed.cursor) == 2)
    await until(lambda: history.live._task is None)
    write(redis_server, ["shop"], 1, "between-")
    async with collecting([history.feed()]) as (collected,):
        await until(lambda: len(collected.feed.cursor) == 2)
        write(redis_server, ["shop"], 1, "later-")
        await until(lambda: collected.sids)
        assert collected.sids == ["later-0"]


# -- cursors of many streams ----------------------------------------------------------------


async def test_a_cursor_of_many_apps_fits_into_a_header_and_resumes_without_a_gap(
    new_history: NewHistory, redis_server: RedisServer
) -> None:
    apps = apps_of("shop", 500)
    history = new_history(redis_server.url, *apps)
    long_ago = int(time.time()) - 120
    with redis_server.client() as look:
        for app in apps:
            fields = revocation(app, sid="long-ago").event.to_fields()
            look.xadd(AppKeys(app).events, fields, id=f"{long_ago}000-0")  # type: ignore[arg-type]
    last = str(await history.feed_ends())
    assert len(last) < 200
    sids = write(redis_server, apps, 20, "after-")
    async with collecting([history.feed(cursor=Cursor.parse(last))]) as (collected,):
        await until(lambda: len(collected.sids) >= 20)
        assert sorted(collected.sids) == sorted(sids)


def test_a_cursor_of_many_streams_holds_the_recently_active_ones() -> None:
    cursor = Cursor({f"app-{n}": f"{n}000-0" for n in range(100)})
    assert Cursor.parse(str(cursor)) == cursor, "nothing is known of the others"
    cursor.settle(60 + 50)
    again = Cursor.parse(str(cursor))
    assert again == {f"app-{n}": f"{n}000-0" for n in range(51, 100)}
    assert again.until == 50_000
    begins = again.starts([*cursor, "new"])
    assert begins["app-51"] == "51000-0"
    assert begins["app-3"] == begins["new"]
    cursor.advance("app-3", "200000-0")
    assert Cursor.parse(str(cursor))["app-3"] == "200000-0"


# -- pages back -----------------------------------------------------------------------------


async def test_pages_of_many_apps_hold_everything_once(
    new_history: NewHistory, redis_server: RedisServer
) -> None:
    apps = apps_of("shop", 40)
    history = new_history(redis_server.url, *apps)
    # One logout of three apps, such as a token for three clients, has one id.
    with redis_server.client() as look:
        for app in apps[:3]:
            fields = revocation(app, sid=f"at-once-{app}").event.to_fields()
            look.xadd(AppKeys(app).events, fields, id="1-1")  # type: ignore[arg-type]
    sids = write(redis_server, apps, 100) + write(redis_server, ["shop-7"], 700, "busy-")
    found, before, pages = [], "+", 0
    while before:
        page = await history.recent(limit=60, before=before)
        found += [feed.event.sid for feed in page if feed.event]
        assert page.more is None or len(page) >= 60
        before, pages = page.more or "", pages + 1
    assert pages >= 13
    assert sorted(found) == sorted(sids + [f"at-once-{app}" for app in apps[:3]])


async def test_the_last_page_says_that_nothing_is_older(
    history: History, app_store: AppStore
) -> None:
    await app_store.write(sid="s1", once=None)
    await app_store.write(sid="s2", once=None)
    newest = await history.recent(limit=1)
    assert [len(newest), newest.more] == [1, newest[0].id]
    assert (await history.recent(limit=1, before=newest.more or "")).more is None
    assert (await history.recent(limit=2)).more is None
