"""The client package with the first and the last release of each major version of redis-py.

Guards and listeners run in their own process, with real servers.

The environment of these tests has one release; an app installs its own.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backchannel_logout.redis.connection import connect
from tests.conftest import OUT_OF_REACH
from tests.support.apps.listening import Stream
from tests.support.receiver import ROOT, clean_environment
from tests.support.revocations import ISS
from tests.support.rights import documented_rights
from tests.support.servers.redis_server import RedisServer
from tests.support.servers.redis_topologies import Cluster, Sentinels
from tests.support.servers.tls_front import behind_tls

pytestmark = pytest.mark.slow

RELEASES = ["5.2.0", "5.3.1", "6.0.0", "6.4.0", "7.0.0", "7.4.1", "8.0.0", "8.1.0"]

APP = Path(__file__).with_name("redis_py_app.py")


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with that release, for the front of the path."""
    target = tmp_path_factory.mktemp("redis-py")
    installed = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check",
            "--root-user-action=ignore", "--no-deps", "--target", str(target),
            f"redis=={request.param}",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if installed.returncode and "No matching distribution" in installed.stderr:
        pytest.skip(f"{OUT_OF_REACH}: pip")
    assert installed.returncode == 0, installed.stderr
    (target / "version").write_text(request.param)
    return target


class App:
    """The process of `redis_py_app`."""

    def __init__(self, release: Path, *arguments: str) -> None:
        path = f"{release}:{ROOT / 'clients/python'}"
        self.version = (release / "version").read_text()
        self.process = subprocess.Popen(
            [sys.executable, str(APP), *arguments],
            env=clean_environment() | {"PYTHONPATH": path},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> "App":
        return self

    def says(self, *words: str) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().split()
        if line != list(words):
            self.process.kill()
            raise AssertionError(f"{line}, {self.process.communicate()[1]}")

    def ends(self, stream: Stream) -> None:
        """It caches both sessions, sees the end of one, and exits cleanly."""
        self.says("ready", self.version)
        log_out(stream)
        self.says("dead")
        assert self.process.wait(30) == 0
        readers = stream.redis.hkeys(stream.keys.readers)
        assert set(readers) <= {"asks", "ended"}, "each has taken its leave"

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def log_out(stream: Stream) -> None:
    """As the receiver writes it."""
    stream.redis.set(stream.keys.sid(ISS, "s1"), 2_000_000_000)
    stream.add("s1")


@pytest.fixture
def rights(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """The server's address, with the users of `docs/contract.md`, and an administrator's client."""
    with documented_rights(tmp_path, "acl") as (url, look):
        yield url.partition("@")[2], look
        assert look.acl_log() == [], "nothing was refused"


def test_guards_and_listeners_with_the_documented_rights(
    release: Path, rights: tuple[str, Any]
) -> None:
    place, look = rights
    stream = Stream(look, "shop")
    guard = f"redis://shop-guard:SHOP-GUARD-PASSWORD@{place}"
    listener = f"redis://shop-listener:SHOP-LISTENER-PASSWORD@{place}"
    with App(release, "shop", guard, listener) as app:
        app.ends(stream)


async def test_through_tls(release: Path, tmp_path: Path, redis_server: RedisServer) -> None:
    async with behind_tls(redis_server.port, tmp_path) as (port, crt):
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={crt}"
        with redis_server.client() as client, App(release, "shop", url, url) as app:
            await asyncio.to_thread(app.ends, Stream(client, "shop"))


def test_behind_sentinels(release: Path, tmp_path: Path) -> None:
    with Sentinels(tmp_path) as sentinels, sentinels.primary.client() as client:
        stream = Stream(client, "shop")
        with App(release, "shop", sentinels.url, sentinels.url) as app:
            app.ends(stream)


def test_in_a_cluster(release: Path, tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        client: Any = connect(cluster.url, timeout=5, decode_responses=True)
        with client, App(release, "shop", cluster.url, cluster.url) as app:
            app.ends(Stream(client, "shop"))
