"""The feed of new events and refusals: in order, resumed, and across outages."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.history import Cursor, DeliveredEvent, Feed, Filter, History, Missed, RefusalEntry
from app.store.operator_streams import REFUSED
from backchannel_logout import EventKind
from tests.history.conftest import NewHistory
from tests.support.revocations import ISS, AppStore
from tests.support.servers.redis_server import RedisServer

REFUSAL = {
    "at": "1795283041.207", "reason": "iat_old", "rule": "iat is older", "iss": ISS,
    "aud": '["shop-web"]', "alg": "RS256", "sid_hash": "aaaaaaaaaaaaaaaa", "colour": "red",
}  # fmt: skip


class FeedConsumer:
    """Consumes a feed in the background and collects its items."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.items: list[DeliveredEvent | RefusalEntry | Missed] = []
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for item in self.feed:
            self.items.append(item)

    @property
    def sids(self) -> list[str | None]:
        return [
            item.event.sid for item in self.items if isinstance(item, DeliveredEvent) and item.event
        ]

    async def until(self, condition: Any) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, self.items
            assert not self._task.done(), self._task.result()
            await asyncio.sleep(0.01)

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@pytest.fixture
async def follow() -> AsyncIterator[Any]:
    consumers: list[FeedConsumer] = []

    def start(history: History, **options: Any) -> FeedConsumer:
        feed = history.feed(**options)
        history.live.pause = 0.02
        consumers.append(FeedConsumer(feed))
        return consumers[-1]

    yield start
    for consumer in consumers:
        await consumer.aclose()


async def test_a_feed_begins_now_and_yields_new_items(
    follow: Any, history: History, app_store: AppStore
) -> None:
    await app_store.write(sid="before", once=None)
    consumer = follow(history, refusals=False)
    await consumer.until(lambda: consumer.feed.cursor)
    await app_store.write(sid="s1", once=None)
    await app_store.write(sid="s2", once=None)
    await consumer.until(lambda: len(consumer.items) >= 2)
    assert consumer.sids == ["s1", "s2"]
    assert consumer.feed.cursor == {app_store.app: app_store.events()[-1].id}


async def test_a_feed_begins_at_a_given_cursor_or_time(
    follow: Any, history: History, app_store: AppStore
) -> None:
    for sid in ("s1", "s2", "s3"):
        await app_store.write(sid=sid, once=None)
    first, *_ = app_store.events()
    consumer = follow(
        history, refusals=False, cursor=Cursor.parse(str(Cursor({app_store.app: first.id})))
    )
    other = follow(history, refusals=False, since=time.time() - 60)
    await consumer.until(lambda: len(consumer.items) >= 2)
    assert consumer.sids == ["s2", "s3"]
    await other.until(lambda: len(other.items) >= 3)
    assert other.sids == ["s1", "s2", "s3"]


async def test_a_trimmed_position_is_reported(
    follow: Any, history: History, app_store: AppStore
) -> None:
    for sid in ("s1", "s2", "s3"):
        await app_store.write(sid=sid, once=None)
    first, *_ = app_store.events()
    app_store.look.xtrim(app_store.keys.events, maxlen=1, approximate=False)
    consumer = follow(history, refusals=False, cursor={app_store.app: first.id})
    await consumer.until(lambda: len(consumer.items) >= 2)
    assert consumer.items[0] == Missed(app=app_store.app)
    assert consumer.sids == ["s3"]


@pytest.mark.parametrize("line", ["", "x", "[]", '{"shop":1}', '{"shop":"x"}', "[" * 100_000])
def test_a_cursor_of_another_form_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Cursor.parse(line)


@pytest.mark.slow
async def test_a_feed_survives_a_restart_and_reports_gaps_after_data_loss(
    follow: Any, new_history: NewHistory, redis_server: RedisServer
) -> None:
    app_store = AppStore(redis_server)
    reports: list[dict[str, str]] = []
    history = new_history(redis_server.url, app_store.app)
    consumer = follow(history, refusals=False, on_unreadable=reports.append)
    await consumer.until(lambda: consumer.feed.cursor)
    await app_store.write(sid="s1", once=None)
    await consumer.until(lambda: consumer.sids == ["s1"])
    redis_server.stop()
    await consumer.until(lambda: len(reports) == 1)
    redis_server.start()
    await consumer.until(lambda: len(reports) == 2)
    assert reports == [{app_store.app: "ConnectionError"}, {}]
    await app_store.write(sid="s2", once=None)
    await consumer.until(lambda: consumer.sids == ["s1", "s2"])
    assert not any(isinstance(item, Missed) for item in consumer.items)
    # Now a Redis that returns empty.
    app_store.look.flushall()
    redis_server.stop()
    await consumer.until(lambda: len(reports) == 3)
    redis_server.start()
    await consumer.until(lambda: isinstance(consumer.items[-1], Missed))
    await app_store.write(sid="s3", once=None)
    await consumer.until(lambda: consumer.sids == ["s1", "s2", "s3"])
    await app_store.aclose()


async def test_an_unreadable_stream_does_not_affect_the_others(
    follow: Any, new_history: NewHistory, app_store: AppStore, shared_redis: RedisServer
) -> None:
    broken, reports = app_store.app + "-broken", []
    app_store.look.set(f"bcl:v1:{{{broken}}}:events", "not a stream")
    history = new_history(shared_redis.url, broken, app_store.app)
    consumer = follow(history, refusals=False, on_unreadable=reports.append)
    await consumer.until(lambda: consumer.feed.cursor)
    await app_store.write()
    await consumer.until(lambda: consumer.items)
    assert (consumer.sids, reports) == (["s1"], [{broken: "WRONGTYPE"}])


async def test_a_feed_includes_refusals_which_can_be_looked_up(
    follow: Any, new_history: NewHistory, redis_server: RedisServer
) -> None:
    history = new_history(redis_server.url, "shop")
    with redis_server.client() as look:
        consumer = follow(history)
        await consumer.until(lambda: len(consumer.feed.cursor) == 2)
        for reason in ("iat_old", "signature"):
            look.xadd(REFUSED, REFUSAL | {"reason": reason})  # type: ignore[arg-type]
    await consumer.until(lambda: len(consumer.items) >= 2)
    first = consumer.items[0]
    assert isinstance(first, RefusalEntry)
    assert (first.reason, first.at, first.aud) == ("iat_old", 1795283041.207, '["shop-web"]')
    newest_first = await history.refusals()
    assert [refusal.reason for refusal in newest_first] == ["signature", "iat_old"]
    assert await history.refusals(Filter(reason="iat_old")) == newest_first[1:]
    by_hash = Filter(sid="s1", sid_hash="aaaaaaaaaaaaaaaa")
    assert len(await history.refusals(by_hash)) == 2
    assert await history.refusals(Filter(sid="s1")) == []
    assert await history.refusals(Filter(kind=EventKind.ALL)) == []
    assert await history.refusals(before=newest_first[0].id) == newest_first[1:]


async def test_recent_events_are_the_newest_matches(history: History, app_store: AppStore) -> None:
    for n in range(5):
        await app_store.write(sid=f"s{n}", sub="alice" if n % 2 else "bob", once=None)
    found = await history.recent(Filter(sub="bob"), limit=2)
    assert [event.event and event.event.sid for event in found] == ["s4", "s2"]
    older = await history.recent(Filter(sub="bob"), before=found[-1].id)
    assert [event.event and event.event.sid for event in older] == ["s0"]
    assert await history.recent(Filter(reason="iat_old")) == []
    assert await history.recent(Filter(iss=ISS + "/")) == []


async def test_entries_that_expired_while_an_app_was_quiet_are_not_missing(
    follow: Any, history: History, app_store: AppStore
) -> None:
    """The first logout after a long silence trims the previous one, which was read."""
    consumer = follow(history, refusals=False)
    await consumer.until(lambda: consumer.feed.cursor)
    await app_store.write(sid="s1", once=None)
    await consumer.until(lambda: consumer.sids == ["s1"])
    look: Any = app_store.look
    pipeline = look.pipeline()
    fields = look.xrange(app_store.keys.events)[-1][1]
    pipeline.xadd(app_store.keys.events, fields)
    pipeline.xtrim(app_store.keys.events, maxlen=1, approximate=False)
    pipeline.execute()
    await consumer.until(lambda: len(consumer.sids) == 2)
    assert not any(isinstance(item, Missed) for item in consumer.items)
