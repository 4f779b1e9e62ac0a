"""A listener for threads: the same behavior, closed from any thread."""

import threading
from typing import Any

import pytest

from backchannel_logout import Event, Gap, GapReason, Listener
from tests.support.apps.listening import QUICK, Stream
from tests.support.receiver import wait_for
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow


def listen(server: RedisServer, stream: Stream, **options: Any) -> Listener:
    return Listener(server.url, app=stream.app, **(QUICK | {"mode": "group"} | options))


@pytest.mark.parametrize("mode", ["group", "broadcast"])
def test_a_loop_is_handed_the_items(mode: str, shared_redis: RedisServer, stream: Stream) -> None:
    found: list[str | None] = []
    with listen(shared_redis, stream, mode=mode) as listener:
        for item in listener:
            if isinstance(item, Gap):
                assert item.reason is GapReason.BEGAN
                stream.add("s1", "s2")
                continue
            found.append(item.sid)
            if item.sid == "s2":
                break
    assert found == ["s1", "s2"]


class RunningListener:
    """`Listener.run` in a thread."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.tried: list[str | None] = []
        self.gaps: list[Gap] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.fails: set[str | None] = set()
        self.thread = threading.Thread(
            target=listener.run, args=(self.handle,), kwargs={"on_gap": self.gaps.append}
        )
        self.thread.start()

    def handle(self, event: Event) -> None:
        self.tried.append(event.sid)
        assert self.go_on.wait(20)
        if event.sid in self.fails:
            raise RuntimeError

    def end(self) -> None:
        self.listener.close()
        self.thread.join(20)
        assert not self.thread.is_alive()


def test_a_loop_that_waits_is_closed_from_another_thread(
    shared_redis: RedisServer, stream: Stream
) -> None:
    running = RunningListener(listen(shared_redis, stream))
    wait_for(lambda: running.gaps, "it has begun")
    running.end()
    running.listener.close()


def test_the_handler_in_work_is_waited_for_and_its_event_acknowledged(
    shared_redis: RedisServer, stream: Stream
) -> None:
    running = RunningListener(listen(shared_redis, stream))
    running.go_on.clear()
    stream.add("s1")
    wait_for(lambda: running.tried, "the handler works")
    threading.Timer(0.3, running.go_on.set).start()
    running.end()
    assert stream.pending() == 0


def test_a_poisoned_event_is_a_dead_letter(shared_redis: RedisServer, stream: Stream) -> None:
    running = RunningListener(listen(shared_redis, stream, tries=2))
    running.fails.add("bad")
    stream.add("bad", "s1")
    wait_for(stream.dead, "there is a dead letter")
    running.end()
    assert sorted(map(str, running.tried)) == ["bad", "bad", "s1"]


def test_a_handler_may_block_for_longer_than_a_takeover(
    shared_redis: RedisServer, stream: Stream
) -> None:
    options = {"take_over_after": 0.5}
    one = RunningListener(listen(shared_redis, stream, **options))
    one.go_on.clear()
    stream.add("s1")
    wait_for(lambda: one.tried, "the handler works")
    two = RunningListener(listen(shared_redis, stream, **options))
    threading.Event().wait(2)
    one.go_on.set()
    wait_for(lambda: stream.pending() == 0, "it is acknowledged")
    one.end()
    two.end()
    assert (one.tried, two.tried) == (["s1"], [])


def test_a_closed_listener_hands_over_nothing(shared_redis: RedisServer, stream: Stream) -> None:
    listener = listen(shared_redis, stream)
    listener.close()
    assert list(listener) == []


def test_it_takes_a_url_only(stream: Stream) -> None:
    with pytest.raises(TypeError, match="URL"):
        Listener(stream.redis, app="shop", mode="group")
