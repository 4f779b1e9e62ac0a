"""An unread log blocks nothing, and a flood of refusals does not fill it."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.telemetry.logs.line_limit import MAX_LINES
from app.telemetry.logs.output import MAX_CHARACTERS
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.scrape import Scrape
from tests.support.servers.redis_server import RedisServer


class Pipe:
    """A pipe that is not read until `read`."""

    def __init__(self) -> None:
        self._out, self.into = os.pipe()
        self._read = bytearray()
        self._thread: threading.Thread | None = None

    def read(self) -> None:
        """Read from now on, until all writers have closed it."""

        def reading() -> None:
            while data := os.read(self._out, 1 << 16):
                self._read.extend(data)

        self._thread = threading.Thread(target=reading)
        self._thread.start()

    def lines(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        text = bytes(self._read)
        events = map(json.loads, text[: text.rfind(b"\n") + 1].splitlines())
        wanted = {"event": event, **fields}
        return [line for line in events if {name: line.get(name) for name in wanted} == wanted]

    def close(self) -> None:
        if self._thread is None:
            self.read()
        assert self._thread is not None
        self._thread.join()
        os.close(self._out)


@contextlib.contextmanager
def unread(
    directory: Path, redis: RedisServer, provider: Provider, top: str = ""
) -> Iterator[tuple[Receiver, Pipe]]:
    """A receiver whose standard error is not read."""
    pipe = Pipe()
    issuer = f'issuer = "{provider.issuer}"\nallow_http = true'
    receiver = Receiver(directory, config(redis.url, issuer, top=top))
    receiver.stderr = pipe.into
    try:
        receiver.start()
        yield receiver, pipe
    finally:
        receiver.stop()
        os.close(pipe.into)
        pipe.close()


def post_all(receiver: Receiver, tokens: list[str]) -> set[int]:
    """The statuses of the answers."""
    with ThreadPoolExecutor(8) as pool:
        return {answer.status_code for answer in pool.map(receiver.post, tokens)}


# The longest possible line of a logout.
LONG = "x" * 255


@pytest.mark.slow
def test_an_unread_log_delays_neither_logouts_nor_probes(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """More lines than the pipe and the queue hold; the rest is dropped and counted."""
    top = f'log_subjects = true\nadmin_token = "{"t" * 32}"'
    with unread(tmp_path / "receiver", redis_server, provider, top) as (receiver, pipe):
        assert post_all(receiver, [f"anonymous-{n}" for n in range(2000)]) == {400}
        count = MAX_CHARACTERS // 500 + 500
        tokens = [provider.token(sid=f"{n}-{LONG}"[:255], sub=LONG) for n in range(count)]
        assert post_all(receiver, tokens) == {200}
        assert receiver.post(provider.token(sid="last")).status_code == 200
        assert receiver.http.get(receiver.admin_url + "/livez").status_code == 200
        metrics = Scrape(receiver)
        unread_lines = metrics.total("bcl_log_lines_dropped_total", cause="unread")
        assert unread_lines
        pipe.read()
        wait_for(
            lambda: (
                # More may have been dropped since the scrape.
                sum(line["lines"] for line in pipe.lines("log", outcome="dropped")) >= unread_lines
            ),
            "the log says how many lines were dropped",
        )
        before = len(pipe.lines("logout", outcome="accepted"))
        receiver.post(provider.token(sid="after"))
        wait_for(
            lambda: len(pipe.lines("logout", outcome="accepted")) == before + 1,
            "lines flow again",
        )


@pytest.mark.slow
def test_a_receiver_with_an_unread_log_stops(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    with unread(tmp_path / "receiver", redis_server, provider, "log_subjects = true") as (
        receiver,
        _,
    ):
        tokens = [provider.token(sid=f"{n}-{LONG}"[:255], sub=LONG) for n in range(300)]
        assert post_all(receiver, tokens) == {200}
        assert receiver.stop() == 0


@pytest.mark.slow
def test_a_flood_of_refusals_does_not_displace_other_lines(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """Some are logged, then a count; signed tokens are logged beside them."""
    with unread(tmp_path / "receiver", redis_server, provider) as (receiver, pipe):
        pipe.read()
        assert post_all(receiver, [f"anonymous-{n}" for n in range(2000)]) == {400}
        assert receiver.post(provider.token(nonce="n")).status_code == 400
        assert receiver.post(provider.token()).status_code == 200
        wait_for(lambda: pipe.lines("logout", outcome="accepted"), "the logout is in the log")
        assert pipe.lines("logout", outcome="refused", reason="nonce")
        refused = len(pipe.lines("logout", outcome="refused"))
        assert refused < MAX_LINES / 8
        left_out = Scrape(receiver).total("bcl_log_lines_dropped_total", cause="limited")
        assert refused + left_out == 2001
        assert receiver.stop() == 0
        summaries = pipe.lines("logouts", outcome="refused")
        assert sum(line["lines_left_out"] for line in summaries) == left_out
