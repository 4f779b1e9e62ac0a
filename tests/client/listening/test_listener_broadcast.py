"""A listener in broadcast mode: each replica receives each event, and gaps."""

import asyncio
from typing import Any

import pytest
import redis.asyncio

from backchannel_logout import AsyncListener, Gap, GapReason
from tests.support.apps.listening import QUICK, RecordingListener, Stream, event, until
from tests.support.servers.redis_server import RedisServer


def listen(server: RedisServer, stream: Stream, **options: Any) -> AsyncListener:
    return AsyncListener(server.url, app=stream.app, mode="broadcast", **(QUICK | options))


async def test_each_replica_sees_each_event(shared_redis: RedisServer, stream: Stream) -> None:
    stream.add("before")
    async with (
        RecordingListener(listen(shared_redis, stream)) as one,
        RecordingListener(listen(shared_redis, stream)) as two,
    ):
        await one.began()
        await two.began()
        stream.add("s1", "s2")
        await one.has("s1", "s2")
        await two.has("s1", "s2")
    assert one.tried == two.tried == ["s1", "s2"]
    assert one.gaps == two.gaps == [Gap(GapReason.BEGAN)]


async def test_a_named_listener_goes_on_where_it_was(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with RecordingListener(listen(shared_redis, stream, name="pod-1")) as recorder:
        await recorder.began()
        [entry_id] = stream.add("s1")
        await recorder.has("s1")
    assert stream.redis.get(stream.keys.position("pod-1")) == entry_id
    assert stream.redis.ttl(stream.keys.position("pod-1")) > 0
    stream.add("s2")
    async with RecordingListener(listen(shared_redis, stream, name="pod-1")) as again:
        await again.has("s2")
    assert again.tried == ["s2"]
    assert again.gaps == []


async def test_an_unreadable_position_is_a_beginning(
    shared_redis: RedisServer, stream: Stream
) -> None:
    stream.redis.set(stream.keys.position("pod-1"), "yesterday")
    async with RecordingListener(listen(shared_redis, stream, name="pod-1")) as recorder:
        await until(lambda: recorder.reasons == [GapReason.BEGAN], "the gap is delivered")


async def test_an_event_that_was_not_finished_is_seen_again(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with listen(shared_redis, stream, name="pod-1") as listener:
        assert await anext(listener) == Gap(GapReason.BEGAN)
        stream.add("s1", "s2")
        first = await anext(listener)
        second = await anext(listener)  # s1 is handled, s2 is not
        assert [getattr(one, "sid", None) for one in (first, second)] == ["s1", "s2"]
    async with RecordingListener(listen(shared_redis, stream, name="pod-1")) as recorder:
        await recorder.has("s2")
    assert recorder.tried == ["s2"]


async def test_a_stream_that_was_trimmed_past_the_position_is_a_gap(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with RecordingListener(listen(shared_redis, stream, name="pod-1")) as recorder:
        await recorder.began()
        [last] = stream.add("s1")
        await recorder.has("s1")
    stream.add("s2", "s3")
    stream.redis.xtrim(stream.keys.events, maxlen=1, approximate=False)
    async with RecordingListener(listen(shared_redis, stream, name="pod-1")) as again:
        await again.has("s3")
    assert again.gaps == [Gap(GapReason.TRIMMED, last)]
    assert again.tried == ["s3"]


async def test_trimming_behind_the_position_is_no_gap(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with RecordingListener(listen(shared_redis, stream)) as recorder:
        await recorder.began()
        stream.add("s1", "s2")
        await recorder.has("s1", "s2")
        stream.redis.xtrim(stream.keys.events, maxlen=1, approximate=False)
        stream.add("s3")
        await recorder.has("s3")
    assert recorder.reasons == [GapReason.BEGAN]


@pytest.mark.slow
async def test_a_stream_that_is_shorter_than_it_was_is_a_gap(
    shared_redis: RedisServer, stream: Stream
) -> None:
    """As after a failover to a replica that was behind: an XREAD alone would wait forever."""
    old = stream.add("s1")
    far = stream.redis.xadd(
        stream.keys.events, event(stream.app, "s2").to_fields(), id="9999999999999-0"
    )
    async with RecordingListener(listen(shared_redis, stream)) as recorder:
        await recorder.began()
        stream.redis.delete(stream.keys.events)
        stream.redis.xadd(stream.keys.events, event(stream.app, "s1").to_fields(), id=old[0])
        await until(lambda: Gap(GapReason.LOST, far) in recorder.gaps, "the gap is delivered")
        stream.add("s3")
        await recorder.has("s3")


@pytest.mark.slow
@pytest.mark.parametrize("pace", [None, 0.05])
async def test_a_stream_that_is_gone_is_one_gap(
    pace: float | None, shared_redis: RedisServer, stream: Stream
) -> None:
    async with RecordingListener(listen(shared_redis, stream, poll_every=pace)) as recorder:
        await recorder.began()
        stream.add("s1")
        await recorder.has("s1")
        stream.redis.delete(stream.keys.events)
        await until(lambda: GapReason.LOST in recorder.reasons, "the gap is delivered")
        stream.add("s2")
        await recorder.has("s2")
    assert recorder.reasons == [GapReason.BEGAN, GapReason.LOST]


async def test_it_reads_on_after_a_restart_of_redis(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        stream = Stream(client)
        async with RecordingListener(listen(redis_server, stream)) as recorder:
            await recorder.began()
            stream.add("s1")
            await recorder.has("s1")
            redis_server.stop()
            redis_server.start()
            stream.add("s2")
            await recorder.has("s2")
    assert recorder.reasons == [GapReason.BEGAN]


@pytest.mark.slow
async def test_a_redis_that_falls_silent_is_left(redis_server: RedisServer) -> None:
    """A silent connection is given up."""
    with redis_server.client() as client:
        stream = Stream(client)
        async with RecordingListener(listen(redis_server, stream)) as recorder:
            await recorder.began()
            redis_server.freeze()
            await until(lambda: recorder.listener._faults, "the silence is noticed")
            redis_server.thaw()
            stream.add("s1")
            await recorder.has("s1")


@pytest.mark.slow
async def test_a_connection_that_redis_ends_between_two_questions_is_no_outage(
    shared_redis: RedisServer, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers and proxies close connections that are silent for some time."""
    listener = listen(shared_redis, stream, poll_every=0.5)
    async with RecordingListener(listener) as recorder:
        await recorder.began()
        for number in range(3):
            await asyncio.sleep(0.1)
            for one in stream.redis.client_list():
                if one["cmd"] == "xrange":
                    stream.redis.client_kill_filter(_id=one["id"])
            stream.add(f"s{number}")
            await recorder.has(f"s{number}")
    assert "has no Redis" not in caplog.text


async def test_a_loop_that_is_cancelled_while_it_connects_ends(
    shared_redis: RedisServer, stream: Stream
) -> None:
    """With a database or a password the library waits in ways that can swallow a cancellation."""
    url = shared_redis.url.removesuffix("0") + "1"
    for moment in range(12):
        async with AsyncListener(url, app=stream.app, mode="broadcast") as listener:
            assert isinstance(await anext(listener), Gap)
            loop: asyncio.Task[object] = asyncio.ensure_future(anext(listener))
            for _ in range(moment):
                await asyncio.sleep(0)
            loop.cancel()
            assert (await asyncio.wait({loop}, timeout=10))[0]
            assert loop.cancelled()


async def test_a_listener_may_ask_now_and_then(shared_redis: RedisServer, stream: Stream) -> None:
    """Instead of blocking in Redis."""
    async with RecordingListener(listen(shared_redis, stream, poll_every=0.1)) as recorder:
        await recorder.began()
        stream.add("s1", "s2")
        await recorder.has("s1", "s2")
        blocked = stream.redis.info("clients")
        assert "blocked_clients" in blocked
    assert recorder.tried == ["s1", "s2"]


async def test_a_polling_listener_has_one_connection(
    shared_redis: RedisServer, stream: Stream
) -> None:
    url = f"{shared_redis.url}?client_name={stream.app}"
    async with RecordingListener(
        AsyncListener(url, app=stream.app, mode="broadcast", poll_every=0.02)
    ) as it:
        await it.began()
        for number in range(5):
            stream.add(f"s{number}")
            await it.has(f"s{number}")
        # Another task reports, next to the reads.
        await until(lambda: stream.redis.hlen(stream.keys.readers), "it has reported")
        ours = [one for one in stream.redis.client_list() if one["name"] == stream.app]
        assert len(ours) == 1


async def test_an_unreadable_event_is_a_gap(shared_redis: RedisServer, stream: Stream) -> None:
    async with RecordingListener(listen(shared_redis, stream)) as recorder:
        await recorder.began()
        entry_id = stream.redis.xadd(stream.keys.events, {"v": "2"})
        stream.add("s1")
        await recorder.has("s1")
    assert recorder.gaps[1:] == [Gap(GapReason.UNKNOWN, entry_id)]


async def test_a_handler_that_fails_holds_the_position_and_nothing_else(
    shared_redis: RedisServer, stream: Stream
) -> None:
    options = {"name": "pod-1", "retry_after": 30.0}
    async with RecordingListener(
        listen(shared_redis, stream, **options), fails=["bad"]
    ) as recorder:
        await recorder.began()
        stream.add("bad", "s1")
        await recorder.has("s1")
    async with RecordingListener(listen(shared_redis, stream, **options)) as again:
        await again.has("bad", "s1")


async def test_a_poisoned_event_is_a_dead_letter_and_the_position_goes_on(
    shared_redis: RedisServer, stream: Stream
) -> None:
    options = {"name": "pod-1", "tries": 2}
    async with RecordingListener(
        listen(shared_redis, stream, **options), fails=["bad"]
    ) as recorder:
        await recorder.began()
        [entry_id] = stream.add("bad")
        await until(stream.dead, "there is a dead letter")
        await until(
            lambda: stream.redis.get(stream.keys.position("pod-1")) == entry_id,
            "the position goes on",
        )


async def test_each_event_has_a_receipt_of_each_replica(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with (
        RecordingListener(listen(shared_redis, stream)) as one,
        RecordingListener(listen(shared_redis, stream)) as two,
    ):
        await one.began()
        await two.began()
        stream.add("s1")
        await one.has("s1")
        await two.has("s1")
    assert len({receipt["reader"] for receipt in stream.receipts()}) == 2


async def test_it_takes_a_client_of_the_app_and_leaves_it_open(
    shared_redis: RedisServer, stream: Stream
) -> None:
    client = redis.asyncio.Redis.from_url(shared_redis.url, decode_responses=True)
    listener = AsyncListener(client, app=stream.app, mode="broadcast")
    async with RecordingListener(listener) as recorder:
        await recorder.began()
        stream.add("s1")
        await recorder.has("s1")
    assert await client.ping()
    await client.aclose()


@pytest.mark.slow
async def test_a_storm_is_caught_up_with_without_loss(
    shared_redis: RedisServer, stream: Stream
) -> None:
    await storm(shared_redis, stream, 10_000)


@pytest.mark.slow
async def test_a_polling_listener_catches_up_with_a_burst(
    shared_redis: RedisServer, stream: Stream
) -> None:
    await storm(shared_redis, stream, 5_000, poll_every=0.05)


@pytest.mark.slow
async def test_a_large_storm_is_caught_up_with_in_flat_memory(
    shared_redis: RedisServer, stream: Stream
) -> None:
    await storm(shared_redis, stream, 100_000)


async def storm(
    server: RedisServer, stream: Stream, count: int, *, poll_every: float | None = None
) -> None:
    """A group and a broadcast listener; neither has more than a batch in progress."""
    sids = [f"s{n}" for n in range(count)]
    group = AsyncListener(server.url, app=stream.app, mode="group")
    broadcast = listen(server, stream, poll_every=poll_every)
    async with RecordingListener(group) as shared, RecordingListener(broadcast) as each:
        await shared.began()
        await each.began()
        max_fresh = held = 0
        for n in range(0, count, 1000):
            stream.add(*sids[n : n + 1000])
            await asyncio.sleep(0)
            inflight = [one.listener._loop.inflight for one in (shared, each)]
            max_fresh = max(max_fresh, *(len(deliveries.fresh) for deliveries in inflight))
        for recorder in (shared, each):
            deadline = asyncio.get_running_loop().time() + 120
            while len(recorder.sids) < count:
                assert asyncio.get_running_loop().time() < deadline
                max_fresh = max(max_fresh, len(recorder.listener._loop.inflight.fresh))
                held = max(held, len(each.listener._loop._order))
                await asyncio.sleep(0.01)
            assert recorder.sids == sids
            assert recorder.reasons == [GapReason.BEGAN]
    assert max_fresh <= 256
    assert held <= 2 * 256, "handled events are released before the next batch"
