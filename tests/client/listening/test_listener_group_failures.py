"""A listener in group mode with dying replicas or failing handlers: no event is lost."""

import asyncio
from pathlib import Path

import pytest

from backchannel_logout import Event, Gap, GapReason
from tests.support.apps.listening import (
    QUICK,
    ListenerProcess,
    RecordingListener,
    Stream,
    event,
    in_group,
    items,
    until,
)
from tests.support.servers.redis_server import RedisServer

# -- crashes -------------------------------------------------------------------------------


@pytest.mark.slow
async def test_the_events_of_a_killed_process_are_taken_over(
    tmp_path: Path, shared_redis: RedisServer, stream: Stream
) -> None:
    child = ListenerProcess(tmp_path, shared_redis.url, stream.app, mode="group", **QUICK)
    stream.add("s1", "hang", "s2", "s3")
    await until(lambda: "hang" in child.heard, "the child is handling it")
    child.kill()
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        await recorder.has("hang", "s2", "s3")
        await until(lambda: stream.pending() == 0, "all are acknowledged")


@pytest.mark.slow
async def test_an_event_that_kills_each_process_ends_among_the_dead_letters(
    tmp_path: Path, shared_redis: RedisServer, stream: Stream
) -> None:
    """And the other deliveries do not."""
    stream.add("s1", "pill", "s2", "s3", "s4")
    options = QUICK | {"tries": 2, "take_over_after": 0.4}
    for _ in range(2):
        child = ListenerProcess(tmp_path, shared_redis.url, stream.app, mode="group", **options)
        await until(lambda child=child: child.process.poll() is not None, "it has died of it")
        assert "pill" in child.heard
    async with RecordingListener(in_group(shared_redis, stream, **options)) as recorder:
        await until(stream.dead, "there is a dead letter")
        await until(lambda: stream.pending() == 0, "all are acknowledged")
    assert [(one["sid"], one["dl_tries"]) for one in stream.dead()] == [("pill", "2")]
    assert "pill" not in recorder.tried
    assert {one["event"]: one["outcome"] for one in stream.receipts()}.keys() == {
        entry_id for entry_id, _ in stream.redis.xrange(stream.keys.events)
    }


@pytest.mark.slow
async def test_a_handler_may_take_longer_than_a_takeover(
    shared_redis: RedisServer, stream: Stream
) -> None:
    begun: list[str | None] = []
    quick = {"take_over_after": 0.5}

    async def slow(item: Event) -> None:
        begun.append(item.sid)
        await asyncio.sleep(4 * quick["take_over_after"])  # time for what must not happen

    async def nothing(_: Gap) -> None:
        pass

    listener = in_group(shared_redis, stream, **quick)
    running = asyncio.create_task(listener.run(slow, on_gap=nothing))
    stream.add("s1")
    await until(lambda: begun, "one has begun")
    async with RecordingListener(in_group(shared_redis, stream, **quick)) as other:
        await until(lambda: stream.pending() == 0, "it is acknowledged")
    await listener.aclose()
    await running
    assert (begun, other.tried) == (["s1"], [])


@pytest.mark.slow
async def test_a_handler_may_take_longer_than_a_takeover_while_redis_has_no_memory(
    redis_server: RedisServer,
) -> None:
    """It cannot report its position, but it can show that it is alive."""
    with redis_server.client() as client:
        stream = Stream(client)
        begun: list[str | None] = []
        ended: list[str | None] = []

        async def work(item: Event) -> None:
            begun.append(item.sid)
            if len(begun) == 1:
                client.config_set("maxmemory", "1")
                [me] = [one for one in both if one._current is not None]
                me._loop.upkeep.reported = (float("-inf"), None)  # as after fifteen seconds
            # Time for what must not happen: the other one scans meanwhile.
            await asyncio.sleep(4 * QUICK["take_over_after"])
            ended.append(item.sid)

        async def nothing(_: Gap) -> None:
            pass

        stream.add("s1")
        both = [in_group(redis_server, stream) for _ in range(2)]
        running = [asyncio.create_task(one.run(work, on_gap=nothing)) for one in both]
        await until(lambda: ended, "one has ended")
        assert begun == ["s1"], "only one has begun"
        for one in both:
            await one.aclose()
        await asyncio.gather(*running)


@pytest.mark.slow
async def test_the_gap_of_a_dead_process_is_delivered_by_another(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with in_group(shared_redis, stream) as listener:
        assert await items(listener, 1) == [Gap(GapReason.BEGAN)]
    assert stream.redis.hlen(stream.keys.gaps("default")) == 1
    async with RecordingListener(in_group(shared_redis, stream)) as other:
        await until(lambda: other.reasons == [GapReason.BEGAN], "the gap is delivered")
        await until(lambda: not stream.redis.exists(stream.keys.gaps("default")), "and struck out")


# -- handlers that fail --------------------------------------------------------------------


async def test_a_handler_that_fails_is_tried_again_while_others_go_on(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with RecordingListener(
        in_group(shared_redis, stream, retry_after=0.3), fails=["bad"]
    ) as recorder:
        stream.add("bad", "s1", "s2")
        await recorder.has("s1", "s2")
        assert recorder.tried == ["bad", "s1", "s2"]
        recorder.fails.clear()
        await recorder.has("bad")
        await until(lambda: stream.pending() == 0, "all are acknowledged")
    assert stream.dead() == []
    assert [one["outcome"] for one in stream.receipts()] == ["failed", "done", "done", "done"]


async def test_a_poisoned_event_is_a_dead_letter_after_its_tries(
    shared_redis: RedisServer, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    async with RecordingListener(
        in_group(shared_redis, stream, tries=3), fails=["bad"]
    ) as recorder:
        [entry_id, _] = stream.add("bad", "s1")
        await until(stream.dead, "there is a dead letter")
        await until(lambda: stream.pending() == 0, "it is acknowledged")
    assert recorder.tried.count("bad") == 3
    [letter] = stream.dead()
    own = {name: value for name, value in letter.items() if name.startswith("dl_")}
    assert own == {
        "dl_event": entry_id, "dl_listener": "default", "dl_tries": "3",
        "dl_error": "RuntimeError",
    }  # fmt: skip
    assert Event.from_fields(letter, entry_id).sid == "bad"  # type: ignore[arg-type]
    [error] = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert entry_id in error
    assert "own words" not in caplog.text


def wrong_types(stream: Stream) -> int:
    """The number of commands that the server refused for the type of their key."""
    found: int = stream.redis.info("errorstats").get("errorstat_WRONGTYPE", {}).get("count", 0)
    return found


async def test_an_event_is_acknowledged_only_after_its_dead_letter_is_stored(
    shared_redis: RedisServer, stream: Stream
) -> None:
    stream.redis.set(stream.keys.dead_letters, "not a stream")
    async with RecordingListener(
        in_group(shared_redis, stream, tries=1), fails=["bad"]
    ) as recorder:
        stream.add("bad")
        before = wrong_types(stream)
        await until(lambda: wrong_types(stream) >= before + 2, "it was stored in vain, twice")
        assert stream.pending() == 1
        stream.redis.delete(stream.keys.dead_letters)
        await until(stream.dead, "there is a dead letter")
        await until(lambda: stream.pending() == 0, "it is acknowledged")
    assert recorder.tried == ["bad"]


@pytest.mark.parametrize("change", [{"v": "2"}, {"kind": "galaxy"}, {"cutoff": "soon"}])
async def test_an_unreadable_event_is_a_gap_and_a_dead_letter(
    change: dict[str, str], shared_redis: RedisServer, stream: Stream
) -> None:
    fields = event(stream.app, "s1").to_fields() | change
    entry_id = stream.redis.xadd(stream.keys.events, fields)
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        stream.add("s2")
        await recorder.has("s2")
        await until(lambda: stream.pending() == 0, "all are acknowledged")
    assert recorder.gaps == [Gap(GapReason.BEGAN), Gap(GapReason.UNKNOWN, entry_id)]
    [letter] = stream.dead()
    assert fields.items() <= letter.items()


@pytest.mark.parametrize(
    ("times", "options"), [(3, {"tries": 1}), (1000, {"retry_after": 0})], ids=["3", "1000"]
)
async def test_a_failed_gap_is_delivered_again(
    times: int, options: dict[str, float], shared_redis: RedisServer, stream: Stream
) -> None:
    """Forever, however few tries an event has; and the pause stops growing."""
    delivered: list[Gap] = []

    async def fail_long(gap: Gap) -> None:
        delivered.append(gap)
        if len(delivered) < times:
            raise RuntimeError("not now")

    async def nothing(_: Event) -> None:
        pass

    listener = in_group(shared_redis, stream, **options)
    running = asyncio.create_task(listener.run(nothing, on_gap=fail_long))
    await until(lambda: len(delivered) == times or running.done(), "it is delivered this often")
    await until(lambda: not stream.redis.exists(stream.keys.gaps("default")), "and struck out")
    await listener.aclose()
    await running
    assert delivered == [Gap(GapReason.BEGAN)] * times


@pytest.mark.slow
async def test_a_consumer_of_any_name_does_no_harm(
    shared_redis: RedisServer, stream: Stream
) -> None:
    """Names are bytes in Redis. Events of such a consumer are taken over too."""
    [first] = stream.add("s1")
    stream.redis.xgroup_create(stream.keys.events, "default", "0")
    stream.redis.xreadgroup("default", b"\xff", {stream.keys.events: ">"}, count=1)
    stream.redis.hset(stream.keys.gaps("default"), b"\xff/0", Gap(GapReason.LOST, first).to_json())
    listener = in_group(shared_redis, stream)
    async with RecordingListener(listener) as recorder:
        await recorder.has("s1")
        await until(lambda: GapReason.LOST in recorder.reasons, "its gap is delivered")
        await until(lambda: not stream.redis.exists(stream.keys.gaps("default")), "and struck out")
        stream.add("s2")
        await recorder.has("s2")


async def test_without_on_gap_nothing_runs(shared_redis: RedisServer, stream: Stream) -> None:
    async with in_group(shared_redis, stream) as listener:
        with pytest.raises(TypeError, match="on_gap"):
            listener.run(asyncio.sleep)  # type: ignore[call-arg,arg-type]
