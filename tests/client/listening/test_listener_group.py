"""A listener in group mode: each event once among the replicas, none lost, and gaps."""

import asyncio
import time
from typing import Any

import pytest

from backchannel_logout import AsyncListener, Event, Gap, GapReason
from backchannel_logout.contract.readers import Reader, ReaderKind
from backchannel_logout.contract.receipts import Outcome, Receipt
from backchannel_logout.listening import loop
from tests.support.apps.listening import RecordingListener, Stream, in_group, items, until
from tests.support.servers.redis_server import RedisServer

# -- the ordinary way ----------------------------------------------------------------------


async def test_events_come_in_their_order_behind_the_sign_that_it_begins(
    shared_redis: RedisServer, stream: Stream
) -> None:
    ids = stream.add("s1", "s2")
    async with in_group(shared_redis, stream) as listener:
        found = await items(listener, 3)
    assert found[0] == Gap(GapReason.BEGAN)
    assert [(one.sid, one.id) for one in found[1:] if isinstance(one, Event)] == [
        ("s1", ids[0]), ("s2", ids[1]),
    ]  # fmt: skip
    assert stream.pending() == 1, "the loop has not fetched another one"


async def test_an_event_reaches_a_waiting_listener(
    shared_redis: RedisServer, stream: Stream
) -> None:
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        await recorder.began()
        stream.add("s1")
        await recorder.has("s1")
        await until(lambda: stream.pending() == 0, "it is acknowledged")
    assert recorder.reasons == [GapReason.BEGAN]


async def test_two_replicas_share_the_events_and_each_has_one_handler(
    shared_redis: RedisServer, stream: Stream
) -> None:
    sids = [f"s{n}" for n in range(400)]
    async with (
        RecordingListener(in_group(shared_redis, stream)) as one,
        RecordingListener(in_group(shared_redis, stream)) as two,
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
        RecordingListener(in_group(shared_redis, stream, name="mailer")) as one,
        RecordingListener(in_group(shared_redis, stream, name="tokens")) as two,
    ):
        stream.add("s1")
        await one.has("s1")
        await two.has("s1")


async def test_a_group_that_starts_now_skips_earlier_events(
    shared_redis: RedisServer, stream: Stream
) -> None:
    stream.add("before")
    async with RecordingListener(in_group(shared_redis, stream, start="now")) as recorder:
        await recorder.began()
        await until(lambda: stream.redis.xinfo_groups(stream.keys.events), "the group is made")
        stream.add("after")
        await recorder.has("after")
    assert recorder.tried == ["after"]
    assert recorder.reasons == [GapReason.BEGAN]


@pytest.mark.slow
async def test_an_event_in_work_when_the_listener_closes_is_handled_by_another(
    shared_redis: RedisServer, stream: Stream
) -> None:
    stream.add("s1", "s2")
    async with in_group(shared_redis, stream) as listener:
        await items(listener, 2)  # the sign of life, and s1
    async with RecordingListener(in_group(shared_redis, stream)) as other:
        await other.has("s1", "s2")
        await until(lambda: stream.pending() == 0, "all are acknowledged")


async def test_a_loop_that_begins_again_is_handed_the_unfinished_event_again(
    shared_redis: RedisServer, stream: Stream
) -> None:
    stream.add("s1")
    async with in_group(shared_redis, stream) as listener:
        await items(listener, 2)
        [again] = await items(listener, 1)
    assert isinstance(again, Event)
    assert again.sid == "s1"


async def test_a_wait_that_is_broken_off_loses_nothing(
    shared_redis: RedisServer, stream: Stream
) -> None:
    """The read's reply may have been in transit."""
    found: list[str | None] = []
    async with in_group(shared_redis, stream) as listener:
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
    listener = in_group(shared_redis, stream)
    recorder = RecordingListener(listener)
    async with recorder:
        await recorder.began()
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
    listener = in_group(shared_redis, stream)
    running = asyncio.create_task(listener.run(slow, on_gap=nothing))
    await begun.wait()
    await listener.aclose()
    assert ended.is_set()
    await running
    assert stream.pending() == 0


async def test_events_wait_for_a_telling_that_is_refused_and_none_is_lost(
    shared_redis: RedisServer, stream: Stream
) -> None:
    """Acknowledged with the next read, which may already have delivered the next events."""
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        await recorder.began()
        stream.redis.set(stream.keys.receipts, "not a stream")
        stream.add("s1")
        await recorder.has("s1")
        for n in range(2, 20):
            stream.add(f"s{n}")
            await asyncio.sleep(0.005)
        stream.redis.delete(stream.keys.receipts)
        await recorder.has(*(f"s{n}" for n in range(1, 20)))
        await until(lambda: stream.pending() == 0, "all are acknowledged")
    assert sorted(recorder.tried, key=str) == sorted({f"s{n}" for n in range(1, 20)})
    assert {one["event"] for one in stream.receipts()} == {
        entry_id for entry_id, _ in stream.redis.xrange(stream.keys.events)
    }


async def test_handled_events_are_acknowledged_while_the_next_read_blocks(
    shared_redis: RedisServer, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are sent together, and the read's reply may take long."""
    monkeypatch.setattr(loop, "BLOCK_SECONDS", 60.0)
    monkeypatch.setattr(loop, "TIMEOUT", 70.0)
    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        await recorder.began()
        stream.add("s1")
        await recorder.has("s1")
        await until(lambda: stream.receipts() and stream.pending() == 0, "Redis knows it")
        await until(lambda: not recorder.listener._loop._settled, "we know that it does")


@pytest.mark.slow
async def test_a_listener_that_closes_while_it_acknowledges_does_not_repeat_it(
    shared_redis: RedisServer, stream: Stream
) -> None:
    for n in range(20):
        async with RecordingListener(in_group(shared_redis, stream)) as recorder:
            stream.add(f"s{n}")
            while f"s{n}" not in recorder.sids:
                await asyncio.sleep(0)
            for _ in range(n % 5):
                await asyncio.sleep(0)
    handled = [one["event"] for one in stream.receipts()]
    assert len(handled) == len(set(handled)) == 20
    assert stream.pending() == 0


# -- acknowledgements ----------------------------------------------------------------------


async def test_each_event_has_a_receipt(shared_redis: RedisServer, stream: Stream) -> None:
    async with RecordingListener(in_group(shared_redis, stream, name="mailer")) as recorder:
        [entry_id] = stream.add("s1")
        await recorder.has("s1")
    [fields] = stream.receipts()
    receipt = Receipt.from_fields(fields)  # type: ignore[arg-type]
    assert receipt is not None
    assert (receipt.event, receipt.listener) == (entry_id, "mailer")
    assert receipt.outcome is Outcome.DONE
    assert 0 <= receipt.seconds < 60
    assert receipt.to_fields() == fields


async def test_receipts_can_be_left_out(shared_redis: RedisServer, stream: Stream) -> None:
    async with RecordingListener(in_group(shared_redis, stream, receipts=False)) as recorder:
        stream.add("s1")
        await recorder.has("s1")
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

    async with RecordingListener(in_group(shared_redis, stream)) as recorder:
        [entry_id] = stream.add("s1")
        await recorder.has("s1")
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
def test_invalid_arguments_are_refused_at_once(wrong: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"redis": "redis://127.0.0.1", "app": "shop", "mode": "group"}
    with pytest.raises(ValueError, match=r"."):
        AsyncListener(**(arguments | wrong))
