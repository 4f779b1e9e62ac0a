"""Several receivers on one Redis, with the nginx site and the unit file of docs/deploy.md."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from backchannel_logout import AppKeys
from tests.support.providers.provider import Provider
from tests.support.receiver import ROOT, Receiver, config, crashes, wait_for
from tests.support.servers.nginx import Nginx
from tests.support.servers.redis_server import RedisServer, free_port

pytestmark = pytest.mark.slow

DEPLOY = (ROOT / "docs/deploy.md").read_text("utf-8")
KEYS = AppKeys("shop")


def snippet(language: str, content: str) -> str:
    """The first code block of this language that has this content."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", DEPLOY, re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if content in block)


@pytest.fixture
def receivers(
    tmp_path: Path, provider: Provider, redis_server: RedisServer
) -> Iterator[list[Receiver]]:
    """Two, which share a data directory. Each keeps its port when it is started again."""
    receivers = [
        Receiver(
            tmp_path / name,
            config(
                redis_server.url, f'issuer = "{provider.issuer}"',
                top=f'data_dir = "{tmp_path / "data"}"', ports=(free_port(), 0),
            ),
        )
        for name in ("first", "second")
    ]  # fmt: skip
    try:
        for receiver in receivers:
            receiver.start()
        yield receivers
    finally:
        for receiver in receivers:
            receiver.stop(signal.SIGKILL)


@pytest.fixture
def nginx(tmp_path: Path, receivers: list[Receiver]) -> Iterator[Nginx]:
    port = free_port()
    site = snippet("nginx", "127.0.0.1:8001")
    for old, new in (
        ("127.0.0.1:8001", receivers[0].url.removeprefix("http://")),
        ("127.0.0.1:8002", receivers[1].url.removeprefix("http://")),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
    ):
        assert site.count(old) == 1
        site = site.replace(old, new)
    with Nginx(tmp_path / "nginx", site, port) as running:
        yield running


def post_all(nginx: Nginx, provider: Provider, sids: list[str]) -> list[int]:
    with httpx.Client(timeout=10, trust_env=False) as http:
        return [
            http.post(
                f"{nginx.url}/backchannel-logout", data={"logout_token": provider.token(sid=sid)}
            ).status_code
            for sid in sids
        ]


def test_two_receivers_behind_nginx_share_the_logouts_and_survive_each_other(
    nginx: Nginx, receivers: list[Receiver], provider: Provider, redis_server: RedisServer
) -> None:
    sids = [f"s{n}" for n in range(60)]
    assert post_all(nginx, provider, sids[:20]) == [200] * 20
    assert all(receiver.wait_for_log_event("logout", outcome="accepted") for receiver in receivers)
    receivers[0].stop(signal.SIGKILL)
    assert post_all(nginx, provider, sids[20:40]) == [200] * 20
    receivers[0].start()
    assert receivers[1].stop() == 0
    # nginx tries a server that has failed again after ten seconds.
    wait_for(lambda: set(post_all(nginx, provider, ["probe"])) == {200}, "nginx tries it again")
    assert post_all(nginx, provider, sids[40:]) == [200] * 20
    with redis_server.client() as client:
        assert client.exists(*(KEYS.sid(provider.issuer, sid) for sid in sids)) == 60
    assert not any(crashes(receiver.full_log) for receiver in receivers)


def test_a_living_receiver_writes_the_journal_of_one_that_was_killed(
    receivers: list[Receiver], provider: Provider, redis_server: RedisServer
) -> None:
    first, second = receivers
    redis_server.stop()
    wait_for(lambda: not first.readyz().json()["redis"]["writable"], "Redis is away", first)
    assert first.post(provider.token(sid="pending")).status_code == 200
    first.stop(signal.SIGKILL)
    redis_server.start()
    with redis_server.client() as client:
        marker = KEYS.sid(provider.issuer, "pending")
        wait_for(lambda: client.exists(marker), "the other one has written it", second)


def test_systemd_accepts_the_template_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("not installed: systemd-analyze (.ci/run installs it)")
    path = tmp_path / "backchannel-logout@.service"
    path.write_text(snippet("ini", "[Service]").replace("/opt/receiver/bin/python", sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "backchannel-logout@" in line]
    assert (done.returncode, ours) == (0, []), done.stderr
