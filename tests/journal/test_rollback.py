"""An update and a rollback lose nothing: this release and the last one read each other's files.

Both are real processes, one after the other on the same directory.
"""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from backchannel_logout.contract.keys import AppKeys
from tests.support.last_release import unpack
from tests.support.providers.provider import ABSENT, Provider
from tests.support.receiver import Receiver, config, run_app, wait_for
from tests.support.servers.redis_server import RedisServer, free_port

pytestmark = pytest.mark.slow

COUNT = 20
"""Logouts for each file of each release; every fourth one ends all sessions of a user."""

THIS, LAST = "this", "last"


class Releases:
    """One receiver's directory, and the two releases that take turns on it."""

    def __init__(self, directory: Path, server: RedisServer, provider: Provider) -> None:
        self.server = server
        self.provider = provider
        self.environments = {THIS: {}, LAST: unpack(directory / "last")}
        issuer = f'issuer = "{provider.issuer}"'
        ports = (free_port(), free_port())
        self.receiver = Receiver(directory / "r", config(server.url, issuer, ports=ports))

    def start(self, release: str) -> None:
        self.receiver.env = self.environments[release]
        self.receiver.start()

    def post(self, name: str) -> set[str]:
        """Post logouts; returns the markers that they leave in Redis."""
        keys, markers = AppKeys("shop"), set()
        for n in range(COUNT):
            who = f"{name}-{n}"
            if n % 4:
                claims = {"sid": who, "sub": ABSENT}
                markers.add(keys.sid(self.provider.issuer, who))
            else:
                claims = {"sub": who, "sid": ABSENT}
                markers.add(keys.sub(self.provider.issuer, who))
            assert self.receiver.post(self.provider.token(**claims)).status_code == 200
        return markers

    def journaled(self, release: str) -> str:
        """The last line of what ``journal list`` of a release says of the directory."""
        ended = run_app(
            "journal", "--config", "settings.toml", "list",
            cwd=self.receiver.directory, env=self.environments[release],
        )  # fmt: skip
        assert ended.returncode == 0, ended
        return ended.stdout.splitlines()[-1]

    def lose_redis(self) -> None:
        """Redis comes back without a key."""
        shutil.rmtree(self.server.directory)
        self.server.start()

    def ended(self, markers: set[str]) -> dict[str, str]:
        """Those of these markers that are in Redis."""
        names = sorted(markers)
        if not names:
            return {}
        with self.server.client() as look:
            values = look.mget(names)
        return {k: value for k, value in zip(names, values, strict=True) if value is not None}

    def wait_until_ended(self, markers: set[str]) -> None:
        wait_for(lambda: self.ended(markers).keys() == markers, "all are there", self.receiver)


@pytest.fixture
def releases(tmp_path: Path, redis_server: RedisServer, provider: Provider) -> Iterator[Releases]:
    releases = Releases(tmp_path, redis_server, provider)
    yield releases
    releases.receiver.stop(signal.SIGKILL)


def test_the_last_release_is_another_program(releases: Releases) -> None:
    """Or the other tests would compare this release with itself."""
    releases.start(LAST)
    exposed = releases.receiver.http.get(releases.receiver.admin_url + "/metrics").text
    assert "bcl_redis_emptied_total" not in exposed


@pytest.mark.parametrize(
    "turns",
    [(LAST, THIS), (THIS, LAST), (LAST, THIS, LAST, THIS)],
    ids=["update", "rollback", "update, rollback and update"],
)
def test_what_one_release_has_acknowledged_the_other_applies(
    turns: tuple[str, ...], releases: Releases
) -> None:
    *writers, reader = turns
    markers: set[str] = set()
    known: dict[str, str] = {}
    for turn, writer in enumerate(writers):
        releases.start(writer)
        releases.wait_until_ended(markers)
        markers |= releases.post(f"copied-{turn}")
        known = releases.ended(markers)
        assert known.keys() == markers, "all of these are in Redis, so in the copy"
        releases.server.stop(signal.SIGKILL)
        markers |= releases.post(f"journaled-{turn}")
        releases.receiver.stop(signal.SIGKILL)
        for release in (THIS, LAST):
            assert releases.journaled(release).startswith(f"{COUNT} waiting, 0 set aside")
        releases.lose_redis()
    releases.start(reader)
    releases.wait_until_ended(markers)
    assert known.items() <= releases.ended(markers).items(), "the same instants"
    releases.receiver.stop()
    for release in (THIS, LAST):
        assert releases.journaled(release).startswith("0 waiting, 0 set aside")
