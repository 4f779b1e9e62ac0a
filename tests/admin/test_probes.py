"""Detects a load balancer that polls `/readyz`, and gives it time at a stop."""

import signal
import time
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.admin import probes
from app.admin.probes import Probes
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer


@pytest.mark.parametrize(
    ("asked", "stopped", "watched"),
    [
        ([], 1000, False),
        ([0, 5], 6, False),
        ([0, 5, 10], 12, True),
        ([0, 30, 60], 80, True),
        ([0, 30, 60], 96, False),
        ([0, 40, 80], 81, False),
        ([0, 100, 105, 110], 111, True),
        ([0, 0.1, 0.2, 0.3, 0.4], 0.5, False),
        ([n / 10 for n in range(30)], 3, True),
    ],
    ids=["never", "twice", "three times", "slowly", "no more", "too slowly", "now", "at a start",
         "often and long"],
)  # fmt: skip
def test_who_asks_regularly_is_a_load_balancer(
    monkeypatch: pytest.MonkeyPatch, asked: list[float], stopped: float, watched: bool
) -> None:
    ready = Probes(lambda: {"ready": True})
    now = 0.0
    monkeypatch.setattr(probes.time, "monotonic", lambda: now)
    client = TestClient(Starlette(routes=ready.routes))
    for now in asked:  # noqa: B007
        assert client.get("/readyz").status_code == 200
    now = stopped
    assert ready.watched() is watched


@pytest.mark.slow
def test_a_quiet_receiver_serves_until_the_load_balancer_has_seen_its_end(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """Slow by what it is: a balancer's pauses are what is told apart. The drain is far longer than
    the two seconds that are looked at, so that a machine that stands still fails nothing."""
    text = config(
        redis_server.url,
        f'issuer = "{provider.issuer}"',
        top='drain = "15s"',
    )
    receiver = Receiver(tmp_path / "receiver", text).start()
    assert receiver.process is not None
    try:
        for _ in range(3):
            time.sleep(probes.SHORTEST_PERIOD + 0.1)  # who asks more often is no balancer
            assert receiver.readyz().status_code == 200
        receiver.process.send_signal(signal.SIGTERM)
        wait_for(lambda: receiver.readyz().status_code == 503, "it is not ready", receiver)
        for _ in range(2):  # to a balancer that asks each second it lives until the second 503
            time.sleep(1)
            assert receiver.readyz().status_code == 503
            assert receiver.post(provider.token()).status_code == 200
        assert receiver.process.wait(60) == 0
    finally:
        receiver.stop(signal.SIGKILL)
