"""A listener in group mode whose Redis loses data: it delivers a gap and reads on."""

from pathlib import Path

import pytest

from backchannel_logout import Gap, GapReason
from tests.support.apps.listening import (
    QUICK,
    ListenerProcess,
    RecordingListener,
    Stream,
    event,
    in_group,
    until,
)
from tests.support.servers.redis_server import RedisServer


async def test_events_that_were_trimmed_before_their_delivery_are_a_gap(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        [last] = stream.add("s1")
        await recorder.has("s1")
        await until(lambda: stream.pending() == 0, "it is acknowledged")
    stream.add("s2", "s3", "s4")
    stream.redis.xtrim(stream.keys.events, maxlen=1, approximate=False)
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        await recorder.has("s4")
    assert recorder.gaps == [Gap(GapReason.TRIMMED, last)]
    assert recorder.tried == ["s4"]


async def test_trimming_behind_the_group_is_no_gap(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        stream.add("s1", "s2")
        await recorder.has("s1", "s2")
        stream.redis.xtrim(stream.keys.events, maxlen=1, approximate=False)
        stream.add("s3")
        await recorder.has("s3")
    assert recorder.reasons == [GapReason.BEGAN]


@pytest.mark.slow
async def test_a_stream_that_was_emptied_is_a_gap(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        stream.add("s1")
        await recorder.has("s1")
        await until(lambda: stream.pending() == 0, "it is acknowledged")
    stream.add("s2")
    stream.redis.xtrim(stream.keys.events, maxlen=0, approximate=False)
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        await until(lambda: GapReason.TRIMMED in recorder.reasons, "the gap is delivered")
        stream.add("s3")
        await recorder.has("s3")


@pytest.mark.slow
async def test_events_that_were_trimmed_in_a_dead_process_hand_are_a_gap(
    tmp_path: Path, shared_redis: RedisServer, stream: Stream
) -> None:
    """At a claim, Redis 7 would silently drop them from the pending list."""
    child = ListenerProcess(tmp_path, shared_redis.url, stream.app, mode="group", **QUICK)
    stream.add("hang", "s2")
    await until(lambda: "hang" in child.heard, "the child is handling it")
    child.kill()
    stream.redis.xtrim(stream.keys.events, maxlen=0, approximate=False)
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        await until(lambda: GapReason.TRIMMED in recorder.reasons, "the gap is delivered")
        await until(lambda: stream.pending() == 0, "nothing is pending")
    assert recorder.tried == []


async def test_an_event_that_is_trimmed_while_it_waits_is_still_tried_again(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with RecordingListener(
        in_group(shared_redis, stream, retry_after=0.2), fails=["bad"]
    ) as recorder:
        stream.add("bad")
        await until(lambda: recorder.tried, "it was tried")
        stream.redis.xtrim(stream.keys.events, maxlen=0, approximate=False)
        recorder.fails.clear()
        await recorder.has("bad")
        await until(lambda: stream.pending() == 0, "it is acknowledged")


async def test_a_missing_group_is_made_again_where_it_was(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        stream.add("s1", "s2")
        await recorder.has("s1", "s2")
        await until(lambda: stream.pending() == 0, "all are acknowledged")
        stream.redis.xgroup_destroy(stream.keys.events, "default")
        await until(lambda: GapReason.LOST in recorder.reasons, "the gap is delivered")
        stream.add("s3")
        await recorder.has("s3")
    assert recorder.tried == ["s1", "s2", "s3"]


async def test_a_lost_stream_is_a_gap_and_read_from_its_start(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        stream.redis.xadd(
            stream.keys.events, event(stream.app, "s1").to_fields(), id="9999999999999-0"
        )
        await recorder.has("s1")
        stream.redis.delete(stream.keys.events)
        stream.add("s2")
        await recorder.has("s2")
        await until(lambda: GapReason.LOST in recorder.reasons, "the gap is delivered")


async def test_a_flushed_redis_is_a_gap(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        stream = Stream(client)
        async with RecordingListener(in_group(redis_server, stream)) as recorder:
            stream.add("s1")
            await recorder.has("s1")
            client.flushall()
            await until(lambda: GapReason.LOST in recorder.reasons, "the gap is delivered")
            stream.add("s2")
            await recorder.has("s2")


async def test_it_reads_on_after_a_restart_of_redis(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        stream = Stream(client)
        async with RecordingListener(in_group(redis_server, stream)) as recorder:
            stream.add("s1")
            await recorder.has("s1")
            await until(lambda: stream.pending() == 0, "it is acknowledged")
            redis_server.stop()
            redis_server.start()
            stream.add("s2")
            await recorder.has("s2")
    assert recorder.reasons == [GapReason.BEGAN]


async def test_it_starts_while_redis_is_away(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server.client() as client:
        stream = Stream(client)
        redis_server.stop()
        async with RecordingListener(in_group(redis_server, stream)) as recorder:
            await until(lambda: "has no Redis" in caplog.text, "it has tried")
            redis_server.start()
            await recorder.began()
            stream.add("s1")
            await recorder.has("s1")
