"""A listener in group mode: each event once among the replicas, none lost, and gaps are told."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backchannel_logout import AsyncListener, Event, Gap, GapReason
from backchannel_logout.listening import reading
from backchannel_logout.readers import Reader, ReaderKind
from backchannel_logout.receipts import Outcome, Receipt
from tests.support.listening import QUICK, Child, Hearing, Stream, event, until
from tests.support.redis_server import RedisServer


@pytest.fixture
def stream(shared_redis: RedisServer) -> Iterator[Stream]:
    with shared_redis.client() as client:
        yield Stream(client)


def listen(server: RedisServer, stream: Stream, **options: Any) -> AsyncListener:
    return AsyncListener(server.url, app=stream.app, mode="group", **(QUICK | options))


async def items(listener: AsyncListener, count: int) -> list[Event | Gap]:
    """The next items, all but the last of them handled."""
    found = []
    async with asyncio.timeout(60):
        async for item in listener:
            found.append(item)
            if len(found) == count:
                break
    return found


# -- the ordinary way ----------------------------------------------------------------------


async def test_events_come_in_their_order_behind_the_sign_that_it_begins(
    shared_redis: RedisServer, stream: Stream
) -> None:
    ids = stream.add("s1", "s2")
    async with listen(shared_redis, stream) as listener:
        found = await items(listener, 3)
    assert found[0] == Gap(GapReason.BEGAN)
    assert [(one.sid, one.id) for one in found[1:] if isinstance(one, Event)] == [
        ("s1", ids[0]), ("s2", ids[1]),
    ]  # fmt: skip
    assert stream.pending() == 1, "the loop has not asked for one after the last"


async def test_an_event_reaches_a_waiting_listener(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with Hearing(listen(shared_redis, stream)) as hearing:
        await hearing.began()
        stream.add("s1")
        await hearing.has("s1")
        await until(lambda: stream.pending() == 0, "it is acknowledged")
    assert hearing.reasons == [GapReason.BEGAN]


async def test_two_replicas_share_the_events_and_each_has_one_handler(
    shared_redis: RedisServer, stream: Stream
) -> None:
    sids = [f"s{n}" for n in range(400)]
    async with (
        Hearing(listen(shared_redis, stream)) as one,
        Hearing(listen(shared_redis, stream)) as two,
    ):
        await one.began()
        stream.add(*sids)
        await until(lambda: len(one.sids) + len(two.sids) >= len(sids), "all are handled")
        await until(lambda: stream.pending() == 0, "all are acknowledged")
    assert sorted([*one.sids, *two.sids]) == sorted(sids)


async def test_listeners_of_another_name_see_the_events_too(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with (
        Hearing(listen(shared_redis, stream, name="mailer")) as one,
        Hearing(listen(shared_redis, stream, name="tokens")) as two,
    ):
        stream.add("s1")
        await one.has("s1")
        await two.has("s1")


async def test_a_group_that_starts_now_leaves_out_what_was(
    shared_redis: RedisServer, stream: Stream
) -> None:
    stream.add("before")
    async with Hearing(listen(shared_redis, stream, start="now")) as hearing:
        await hearing.began()
        await until(lambda: stream.redis.xinfo_groups(stream.keys.events), "the group is made")
        stream.add("after")
        await hearing.has("after")
    assert hearing.tried == ["after"]
    assert hearing.reasons == [GapReason.BEGAN]


@pytest.mark.slow
async def test_an_event_in_work_when_the_listener_closes_is_handled_by_another(
    shared_redis: RedisServer, stream: Stream
) -> None:
    stream.add("s1", "s2")
    async with listen(shared_redis, stream) as listener:
        await items(listener, 2)  # the sign, and s1
    async with Hearing(listen(shared_redis, stream)) as other:
        await other.has("s1", "s2")
        await until(lambda: stream.pending() == 0, "all are acknowledged")


async def test_a_loop_that_begins_again_is_handed_the_unfinished_event_again(
    shared_redis: RedisServer, stream: Stream
) -> None:
    stream.add("s1")
    async with listen(shared_redis, stream) as listener:
        await items(listener, 2)
        [again] = await items(listener, 1)
    assert isinstance(again, Event)
    assert again.sid == "s1"


async def test_a_wait_that_is_broken_off_loses_nothing(
    shared_redis: RedisServer, stream: Stream
) -> None:
    """The answer of the read may have been on its way."""
    found: list[str | None] = []
    async with listen(shared_redis, stream) as listener:
        assert await anext(listener) == Gap(GapReason.BEGAN)
        for n in range(40):
            if n % 2:
                stream.add(f"s{n}")
            try:
                async with asyncio.timeout(0.005):
                    item = await anext(listener)
                    found.append(item.sid if isinstance(item, Event) else item.reason)
            except TimeoutError:
                continue
        while len(set(found)) < 20:
            async with asyncio.timeout(60):
                item = await anext(listener)
                found.append(item.sid if isinstance(item, Event) else item.reason)
    assert set(found) == {f"s{n}" for n in range(1, 40, 2)}


async def test_a_listener_that_waits_is_closed_by_another_task(
    shared_redis: RedisServer, stream: Stream
) -> None:
    listener = listen(shared_redis, stream)
    hearing = Hearing(listener)
    async with hearing:
        await hearing.began()
        await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            await listener.aclose()


async def test_the_handler_in_work_is_waited_for_when_it_closes(
    shared_redis: RedisServer, stream: Stream
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def slow(_: Event) -> None:
        begun.set()
        await asyncio.sleep(0.3)
        ended.set()

    async def nothing(_: Gap) -> None:
        pass

    stream.add("s1")
    listener = listen(shared_redis, stream)
    running = asyncio.create_task(listener.run(slow, on_gap=nothing))
    await begun.wait()
    await listener.aclose()
    assert ended.is_set()
    await running
    assert stream.pending() == 0


async def test_events_wait_for_a_telling_that_is_refused_and_none_is_lost(
    shared_redis: RedisServer, stream: Stream
) -> None:
    """What was handled is told with the next read: that read may have brought the next events."""
    async with Hearing(listen(shared_redis, stream)) as hearing:
        await hearing.began()
        stream.redis.set(stream.keys.receipts, "not a stream")
        stream.add("s1")
        await hearing.has("s1")
        for n in range(2, 20):
            stream.add(f"s{n}")
            await asyncio.sleep(0.005)
        stream.redis.delete(stream.keys.receipts)
        await hearing.has(*(f"s{n}" for n in range(1, 20)))
        await until(lambda: stream.pending() == 0, "all are acknowledged")
    assert sorted(hearing.tried, key=str) == sorted({f"s{n}" for n in range(1, 20)})
    assert {one["event"] for one in stream.receipts()} == {
        entry_id for entry_id, _ in stream.redis.xrange(stream.keys.events)
    }


async def test_what_was_handled_is_told_while_the_next_read_waits(
    shared_redis: RedisServer, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go out together, and the answer of the read may take long."""
    monkeypatch.setattr(reading, "BLOCK_SECONDS", 60.0)
    monkeypatch.setattr(reading, "TIMEOUT", 70.0)
    async with Hearing(listen(shared_redis, stream)) as hearing:
        await hearing.began()
        stream.add("s1")
        await hearing.has("s1")
        await until(lambda: stream.receipts() and stream.pending() == 0, "Redis knows it")
        await until(lambda: not hearing.listener._reading._settled, "we know that it does")


@pytest.mark.slow
async def test_a_listener_that_closes_while_it_tells_does_not_tell_twice(
    shared_redis: RedisServer, stream: Stream
) -> None:
    for n in range(20):
        async with Hearing(listen(shared_redis, stream)) as hearing:
            stream.add(f"s{n}")
            while f"s{n}" not in hearing.sids:
                await asyncio.sleep(0)
            for _ in range(n % 5):
                await asyncio.sleep(0)
    told = [one["event"] for one in stream.receipts()]
    assert len(told) == len(set(told)) == 20
    assert stream.pending() == 0


# -- crashes -------------------------------------------------------------------------------


@pytest.mark.slow
async def test_what_a_killed_process_had_in_hand_is_taken_over(
    tmp_path: Path, shared_redis: RedisServer, stream: Stream
) -> None:
    child = Child(tmp_path, shared_redis.url, stream.app, mode="group", **QUICK)
    stream.add("s1", "hang", "s2", "s3")
    await until(lambda: "hang" in child.heard, "the child has it in hand")
    child.kill()
    async with Hearing(listen(shared_redis, stream)) as hearing:
        await hearing.has("hang", "s2", "s3")
        await until(lambda: stream.pending() == 0, "all are acknowledged")


@pytest.mark.slow
async def test_an_event_that_kills_each_process_ends_among_the_dead_letters(
    tmp_path: Path, shared_redis: RedisServer, stream: Stream
) -> None:
    """And what was delivered beside it does not."""
    stream.add("s1", "pill", "s2", "s3", "s4")
    options = QUICK | {"tries": 2, "take_over_after": 0.4}
    for _ in range(2):
        child = Child(tmp_path, shared_redis.url, stream.app, mode="group", **options)
        await until(lambda child=child: child.process.poll() is not None, "it has died of it")
        assert "pill" in child.heard
    async with Hearing(listen(shared_redis, stream, **options)) as hearing:
        await until(stream.dead, "there is a dead letter")
        await until(lambda: stream.pending() == 0, "all are acknowledged")
    assert [(one["sid"], one["dl_tries"]) for one in stream.dead()] == [("pill", "2")]
    assert "pill" not in hearing.tried
    assert {one["event"]: one["outcome"] for one in stream.receipts()}.keys() == {
        entry_id for entry_id, _ in stream.redis.xrange(stream.keys.events)
    }


@pytest.mark.slow
async def test_a_handler_may_take_longer_than_a_takeover(
    shared_redis: RedisServer, stream: Stream
) -> None:
    begun: list[str | None] = []

    async def slow(item: Event) -> None:
        begun.append(item.sid)
        await asyncio.sleep(2)

    async def nothing(_: Gap) -> None:
        pass

    quick = {"take_over_after": 0.5}
    listener = listen(shared_redis, stream, **quick)
    running = asyncio.create_task(listener.run(slow, on_gap=nothing))
    stream.add("s1")
    await until(lambda: begun, "one has begun")
    async with Hearing(listen(shared_redis, stream, **quick)) as other:
        await until(lambda: stream.pending() == 0, "it is acknowledged")
    await listener.aclose()
    await running
    assert (begun, other.tried) == (["s1"], [])


@pytest.mark.slow
async def test_a_handler_may_take_longer_than_a_takeover_while_redis_has_no_memory(
    redis_server: RedisServer,
) -> None:
    """It can not report how far it is; that it lives, it can show."""
    with redis_server.client() as client:
        stream = Stream(client)
        begun: list[str | None] = []

        async def work(item: Event) -> None:
            begun.append(item.sid)
            if len(begun) == 1:
                client.config_set("maxmemory", "1")
                [me] = [one for one in both if one._current is not None]
                me._reading._reported = (float("-inf"), None)  # as after fifteen seconds
            await asyncio.sleep(4)

        async def nothing(_: Gap) -> None:
            pass

        stream.add("s1")
        both = [listen(redis_server, stream) for _ in range(2)]
        running = [asyncio.create_task(one.run(work, on_gap=nothing)) for one in both]
        await until(lambda: begun, "one has begun")
        await asyncio.sleep(5)
        assert begun == ["s1"], "only one has"
        for one in both:
            await one.aclose()
        await asyncio.gather(*running)


@pytest.mark.slow
async def test_a_gap_that_a_dead_process_had_in_hand_is_told_by_another(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with listen(shared_redis, stream) as listener:
        assert await items(listener, 1) == [Gap(GapReason.BEGAN)]
    assert stream.redis.hlen(stream.keys.gaps("default")) == 1
    async with Hearing(listen(shared_redis, stream)) as other:
        await until(lambda: other.reasons == [GapReason.BEGAN], "the gap is told")
        await until(lambda: not stream.redis.exists(stream.keys.gaps("default")), "and struck out")


# -- handlers that fail --------------------------------------------------------------------


async def test_a_handler_that_fails_is_tried_again_while_others_go_on(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with Hearing(listen(shared_redis, stream, retry_after=0.3), fails=["bad"]) as hearing:
        stream.add("bad", "s1", "s2")
        await hearing.has("s1", "s2")
        assert hearing.tried == ["bad", "s1", "s2"]
        hearing.fails.clear()
        await hearing.has("bad")
        await until(lambda: stream.pending() == 0, "all are acknowledged")
    assert stream.dead() == []
    assert [one["outcome"] for one in stream.receipts()] == ["failed", "done", "done", "done"]


async def test_a_poisoned_event_is_a_dead_letter_after_its_tries(
    shared_redis: RedisServer, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    async with Hearing(listen(shared_redis, stream, tries=3), fails=["bad"]) as hearing:
        [entry_id, _] = stream.add("bad", "s1")
        await until(stream.dead, "there is a dead letter")
        await until(lambda: stream.pending() == 0, "it is acknowledged")
    assert hearing.tried.count("bad") == 3
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


async def test_an_event_is_acknowledged_only_after_its_dead_letter_is_stored(
    shared_redis: RedisServer, stream: Stream
) -> None:
    stream.redis.set(stream.keys.dead_letters, "not a stream")
    async with Hearing(listen(shared_redis, stream, tries=1), fails=["bad"]) as hearing:
        stream.add("bad")
        await until(lambda: hearing.tried, "it was tried")
        await asyncio.sleep(0.5)
        assert stream.pending() == 1
        stream.redis.delete(stream.keys.dead_letters)
        await until(stream.dead, "there is a dead letter")
        await until(lambda: stream.pending() == 0, "it is acknowledged")
    assert hearing.tried == ["bad"]


@pytest.mark.parametrize("change", [{"v": "2"}, {"kind": "galaxy"}, {"cutoff": "soon"}])
async def test_an_event_that_can_not_be_read_is_a_gap_and_a_dead_letter(
    change: dict[str, str], shared_redis: RedisServer, stream: Stream
) -> None:
    fields = event(stream.app, "s1").to_fields() | change
    entry_id = stream.redis.xadd(stream.keys.events, fields)
    async with Hearing(listen(shared_redis, stream)) as hearing:
        stream.add("s2")
        await hearing.has("s2")
        await until(lambda: stream.pending() == 0, "all are acknowledged")
    assert hearing.gaps == [Gap(GapReason.BEGAN), Gap(GapReason.UNKNOWN, entry_id)]
    [letter] = stream.dead()
    assert fields.items() <= letter.items()


async def test_a_gap_that_fails_is_told_again(shared_redis: RedisServer, stream: Stream) -> None:
    told: list[Gap] = []

    async def fail_twice(gap: Gap) -> None:
        told.append(gap)
        if len(told) < 3:
            raise RuntimeError("not now")

    async def nothing(_: Event) -> None:
        pass

    listener = listen(shared_redis, stream, tries=1)
    running = asyncio.create_task(listener.run(nothing, on_gap=fail_twice))
    await until(lambda: len(told) == 3, "the gap is told three times")
    await until(lambda: not stream.redis.exists(stream.keys.gaps("default")), "and struck out")
    await listener.aclose()
    await running


async def test_a_gap_may_fail_a_thousand_times(shared_redis: RedisServer, stream: Stream) -> None:
    """It is tried for ever; the pause does not grow for ever."""
    told: list[Gap] = []

    async def fail_long(gap: Gap) -> None:
        told.append(gap)
        if len(told) < 1000:
            raise RuntimeError("not now")

    async def nothing(_: Event) -> None:
        pass

    listener = listen(shared_redis, stream, retry_after=0)
    running = asyncio.create_task(listener.run(nothing, on_gap=fail_long))
    await until(lambda: len(told) == 1000 or running.done(), "it has been told a thousand times")
    await listener.aclose()
    await running


@pytest.mark.slow
async def test_a_consumer_of_any_name_harms_nobody(
    shared_redis: RedisServer, stream: Stream
) -> None:
    """Names are bytes in Redis. What such a one left behind is taken over, too."""
    [first] = stream.add("s1")
    stream.redis.xgroup_create(stream.keys.events, "default", "0")
    stream.redis.xreadgroup("default", b"\xff", {stream.keys.events: ">"}, count=1)
    stream.redis.hset(stream.keys.gaps("default"), b"\xff/0", Gap(GapReason.LOST, first).to_json())
    listener = listen(shared_redis, stream)
    async with Hearing(listener) as hearing:
        await hearing.has("s1")
        await until(lambda: GapReason.LOST in hearing.reasons, "its gap is told")
        await until(lambda: not stream.redis.exists(stream.keys.gaps("default")), "and struck out")
        stream.add("s2")
        await hearing.has("s2")


async def test_without_on_gap_nothing_runs(shared_redis: RedisServer, stream: Stream) -> None:
    async with listen(shared_redis, stream) as listener:
        with pytest.raises(TypeError, match="on_gap"):
            listener.run(asyncio.sleep)  # type: ignore[call-arg,arg-type]


# -- what Redis loses ----------------------------------------------------------------------


async def test_events_that_were_trimmed_before_their_delivery_are_a_gap(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with Hearing(listen(shared_redis, stream)) as hearing:
        [last] = stream.add("s1")
        await hearing.has("s1")
        await until(lambda: stream.pending() == 0, "it is acknowledged")
    stream.add("s2", "s3", "s4")
    stream.redis.xtrim(stream.keys.events, maxlen=1, approximate=False)
    async with Hearing(listen(shared_redis, stream)) as hearing:
        await hearing.has("s4")
    assert hearing.gaps == [Gap(GapReason.TRIMMED, last)]
    assert hearing.tried == ["s4"]


async def test_trimming_behind_the_group_is_no_gap(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with Hearing(listen(shared_redis, stream)) as hearing:
        stream.add("s1", "s2")
        await hearing.has("s1", "s2")
        stream.redis.xtrim(stream.keys.events, maxlen=1, approximate=False)
        stream.add("s3")
        await hearing.has("s3")
    assert hearing.reasons == [GapReason.BEGAN]


@pytest.mark.slow
async def test_a_stream_that_was_emptied_is_a_gap(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with Hearing(listen(shared_redis, stream)) as hearing:
        stream.add("s1")
        await hearing.has("s1")
        await until(lambda: stream.pending() == 0, "it is acknowledged")
    stream.add("s2")
    stream.redis.xtrim(stream.keys.events, maxlen=0, approximate=False)
    async with Hearing(listen(shared_redis, stream)) as hearing:
        await until(lambda: GapReason.TRIMMED in hearing.reasons, "the gap is told")
        stream.add("s3")
        await hearing.has("s3")


@pytest.mark.slow
async def test_events_that_were_trimmed_in_a_dead_process_hand_are_a_gap(
    tmp_path: Path, shared_redis: RedisServer, stream: Stream
) -> None:
    """Redis from 7 on would drop them from the pending list at a claim, and say nothing."""
    child = Child(tmp_path, shared_redis.url, stream.app, mode="group", **QUICK)
    stream.add("hang", "s2")
    await until(lambda: "hang" in child.heard, "the child has it in hand")
    child.kill()
    stream.redis.xtrim(stream.keys.events, maxlen=0, approximate=False)
    async with Hearing(listen(shared_redis, stream)) as hearing:
        await until(lambda: GapReason.TRIMMED in hearing.reasons, "the gap is told")
        await until(lambda: stream.pending() == 0, "nothing is pending")
    assert hearing.tried == []


async def test_an_event_that_is_trimmed_while_it_waits_is_still_tried_again(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with Hearing(listen(shared_redis, stream, retry_after=0.2), fails=["bad"]) as hearing:
        stream.add("bad")
        await until(lambda: hearing.tried, "it was tried")
        stream.redis.xtrim(stream.keys.events, maxlen=0, approximate=False)
        hearing.fails.clear()
        await hearing.has("bad")
        await until(lambda: stream.pending() == 0, "it is acknowledged")


async def test_a_missing_group_is_made_again_where_it_was(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with Hearing(listen(shared_redis, stream)) as hearing:
        stream.add("s1", "s2")
        await hearing.has("s1", "s2")
        await until(lambda: stream.pending() == 0, "all are acknowledged")
        stream.redis.xgroup_destroy(stream.keys.events, "default")
        await until(lambda: GapReason.LOST in hearing.reasons, "the gap is told")
        stream.add("s3")
        await hearing.has("s3")
    assert hearing.tried == ["s1", "s2", "s3"]


async def test_a_lost_stream_is_a_gap_and_read_from_its_start(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with Hearing(listen(shared_redis, stream)) as hearing:
        stream.redis.xadd(
            stream.keys.events, event(stream.app, "s1").to_fields(), id="9999999999999-0"
        )
        await hearing.has("s1")
        stream.redis.delete(stream.keys.events)
        stream.add("s2")
        await hearing.has("s2")
        await until(lambda: GapReason.LOST in hearing.reasons, "the gap is told")


async def test_a_flushed_redis_is_a_gap(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        stream = Stream(client)
        async with Hearing(listen(redis_server, stream)) as hearing:
            stream.add("s1")
            await hearing.has("s1")
            client.flushall()
            await until(lambda: GapReason.LOST in hearing.reasons, "the gap is told")
            stream.add("s2")
            await hearing.has("s2")


async def test_it_reads_on_after_a_restart_of_redis(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        stream = Stream(client)
        async with Hearing(listen(redis_server, stream)) as hearing:
            stream.add("s1")
            await hearing.has("s1")
            await until(lambda: stream.pending() == 0, "it is acknowledged")
            redis_server.stop()
            redis_server.start()
            stream.add("s2")
            await hearing.has("s2")
    assert hearing.reasons == [GapReason.BEGAN]


async def test_it_starts_while_redis_is_away(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        stream = Stream(client)
        redis_server.stop()
        async with Hearing(listen(redis_server, stream)) as hearing:
            await asyncio.sleep(0.2)
            redis_server.start()
            await hearing.began()
            stream.add("s1")
            await hearing.has("s1")


# -- what it tells -------------------------------------------------------------------------


async def test_each_event_has_a_receipt(shared_redis: RedisServer, stream: Stream) -> None:
    async with Hearing(listen(shared_redis, stream, name="mailer")) as hearing:
        [entry_id] = stream.add("s1")
        await hearing.has("s1")
    [fields] = stream.receipts()
    receipt = Receipt.from_fields(fields)  # type: ignore[arg-type]
    assert receipt is not None
    assert (receipt.event, receipt.listener) == (entry_id, "mailer")
    assert receipt.outcome is Outcome.DONE
    assert 0 <= receipt.seconds < 60
    assert receipt.to_fields() == fields


async def test_receipts_can_be_left_out(shared_redis: RedisServer, stream: Stream) -> None:
    async with Hearing(listen(shared_redis, stream, receipts=False)) as hearing:
        stream.add("s1")
        await hearing.has("s1")
    assert stream.receipts() == []


@pytest.mark.slow
async def test_a_listener_reports_how_far_it_has_read_until_it_closes(
    shared_redis: RedisServer, stream: Stream
) -> None:
    def reports() -> list[Reader | None]:
        found = stream.redis.hgetall(stream.keys.readers)
        return [Reader.from_json(name, text) for name, text in found.items()]

    def positions() -> set[str | None]:
        return {one.position for one in reports() if one}

    async with Hearing(listen(shared_redis, stream)) as hearing:
        [entry_id] = stream.add("s1")
        await hearing.has("s1")
        await until(lambda: positions() == {entry_id}, "the position is reported")
        [reader] = reports()
        assert reader is not None
        assert reader.kind is ReaderKind.GROUP
        assert abs(time.time() - reader.at) < 30
    assert [one.kind for one in reports() if one] == [ReaderKind.ENDED]


WRONG: dict[str, dict[str, Any]] = {
    "a mode": {"mode": "both"}, "a name": {"name": "a b"}, "no name": {"name": ""},
    "tries": {"tries": 0}, "a start": {"start": "$"}, "a pause": {"retry_after": -1},
    "a takeover": {"take_over_after": 0}, "a pace in a group": {"poll_every": 1.0},
    "an app": {"app": "Shop"}, "a URL": {"redis": "http://localhost"},
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_told_at_once(wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"redis": "redis://127.0.0.1", "app": "shop", "mode": "group"}
    with pytest.raises(ValueError, match=r"."):
        AsyncListener(**(arguments | wrong))
