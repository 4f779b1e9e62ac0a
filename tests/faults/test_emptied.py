"""A Redis that came back empty is an error that says how far the copy reaches back."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.journal.ack_log import AckLog
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, run_app, wait_for
from tests.support.revocations import numbered
from tests.support.scrape import Scrape
from tests.support.servers.redis_server import RedisServer, free_port

KEY = "bcl:v1:generation"
NEW = '[{client_id = "shop-web", app = "shop"}, {client_id = "new-web", app = "new"}]'


class Service:
    """A receiver that can be restarted, without its copy or with other apps."""

    def __init__(self, directory: Path, url: str, provider: Provider, user: str = "") -> None:
        self.url = url.replace("//", f"//{user}") if user else url
        self.provider = provider
        self.ports = (free_port(), free_port())
        self.receiver = Receiver(directory, self.settings())

    def settings(self, **options: str) -> str:
        issuer = f'issuer = "{self.provider.issuer}"'
        return config(self.url, issuer, ports=self.ports, **options)

    def start(self) -> Receiver:
        receiver = self.receiver.start()
        # Its first comparison is over.
        receiver.wait_for_log_event("recovery")
        return receiver

    def lose_copy(self) -> None:
        for copy in self.receiver.directory.rglob("*.accepted"):
            shutil.rmtree(copy)

    def post(self, number: int) -> None:
        for n in range(number):
            token = self.provider.token(sid=f"s{n}-{time.monotonic_ns()}")
            assert self.receiver.post(token).status_code == 200

    def emptied(self) -> list[dict[str, Any]]:
        return self.receiver.log_events("recovery", outcome="emptied")

    def wait_until_restored(self) -> dict[str, Any]:
        (said,) = self.receiver.wait_for_log_event("recovery", outcome="restored_from_copy")
        return said


@pytest.fixture
def service(provider: Provider, redis_server: RedisServer, tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "r", redis_server.url, provider)
    yield service
    service.receiver.stop()


def markers(server: RedisServer) -> int:
    with server.client() as look:
        return len(list(look.scan_iter("bcl:v1:{shop}:sid:*")))


def flush(server: RedisServer) -> None:
    with server.client() as look:
        look.flushall()


@pytest.mark.parametrize("later", [0, 3])
def test_a_flush_that_the_copy_does_not_cover_is_an_error(
    later: int, service: Service, redis_server: RedisServer
) -> None:
    """The copy is gone, as with a new pod; or has only what came after that."""
    service.start()
    service.post(5)
    service.receiver.stop()
    service.lose_copy()
    receiver = service.start()
    service.post(later)
    flush(redis_server)
    said = service.wait_until_restored()
    assert (said["level"], said["written_again"]) == ("error", later)
    (emptied,) = service.emptied()
    assert emptied["level"] == "error"
    assert emptied["detail"] == "Redis came back empty; the copy reaches back 0 minutes"
    assert markers(redis_server) == later
    scrape = Scrape(receiver)
    assert scrape.total("bcl_redis_emptied_total") == 1
    assert 0 <= (scrape.total("bcl_copy_reach_seconds") or -1) < 300
    shown = receiver.readyz().json()["redis_emptied"]
    assert shown["written_again"] == later
    assert 0 <= shown["reach"] < 300

    after = receiver.log.rpartition('"emptied"')[2]
    assert '"nothing_lost"' not in after
    status = run_app("status", "--config", "settings.toml", cwd=receiver.directory)
    assert status.returncode == 1
    assert "came back empty" in status.stdout


def test_a_redis_that_lost_everything_while_no_receiver_ran(
    service: Service, redis_server: RedisServer
) -> None:
    service.start()
    service.post(4)
    service.receiver.stop()
    flush(redis_server)
    service.start()
    assert service.wait_until_restored()["written_again"] == 4
    assert len(service.emptied()) == 1
    service.receiver.stop()
    service.start()
    assert service.emptied() == [], "it is said once"


def test_nothing_is_said_of_a_first_start_a_restart_or_a_new_app(
    service: Service, redis_server: RedisServer
) -> None:
    service.start()
    with redis_server.client() as look:
        assert look.exists(KEY)
        service.post(1)
        service.receiver.stop()
        service.start()
        assert service.emptied() == []
        service.receiver.stop()
        (service.receiver.directory / "settings.toml").write_text(service.settings(clients=NEW))
        receiver = service.start()
        wait_for(lambda: look.exists("bcl:v1:{new}:meta"), "the new app is served", receiver)
        # An earlier release wrote no such key.
        look.delete(KEY)
        service.receiver.stop()
        service.lose_copy()
        service.start()
        wait_for(lambda: look.exists(KEY), "it has one now", receiver)
        assert service.emptied() == []
    assert Scrape(service.receiver).total("bcl_redis_emptied_total") == 0


def test_each_of_two_receivers_says_it_once(
    service: Service, redis_server: RedisServer, provider: Provider, tmp_path: Path
) -> None:
    other = Service(tmp_path / "other", redis_server.url, provider)
    service.start()
    other.start()
    try:
        service.post(2)
        other.post(3)
        flush(redis_server)
        assert service.wait_until_restored()["written_again"] in (2, 5)
        other.wait_until_restored()
        wait_for(lambda: markers(redis_server) == 5, "all are there again", other.receiver)
        with redis_server.client() as look:
            generation = look.get(KEY)
            # Several checks later both still agree.
            wait_for(lambda: look.info("stats")["total_commands_processed"] > 0, "it answers")
            for each in (service, other):
                asked = Scrape(each.receiver).total("bcl_redis_emptied_total")
                assert (len(each.emptied()), asked) == (1, 1)
            assert look.get(KEY) == generation
    finally:
        other.receiver.stop()


def test_with_the_rights_of_an_earlier_release_it_is_noticed_by_meta(
    provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    with redis_server.client() as look:
        look.execute_command(
            "ACL", "SETUSER", "old", "on", ">pw", "+@all", "~bcl:v1:{shop}:*", "~bcl:v1:audit",
            "~bcl:v1:refused", "~bcl:v1:hash_key", "&*",
        )  # fmt: skip
        service = Service(tmp_path / "r", redis_server.url, provider, user="old:pw@")
        receiver = service.start()
        try:
            receiver.wait_for_log_event("redis", what="generation")
            service.post(2)
            look.flushall()
            assert service.wait_until_restored()["written_again"] == 2
            assert len(service.emptied()) == 1
        finally:
            receiver.stop()


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_the_reach_of_a_copy_ends_where_it_was_cut(tmp_path: Path) -> None:
    clock = Clock()

    def opened() -> AckLog:
        log = AckLog(tmp_path, window=3600, max_bytes=8_000, clock=clock, monotonic=clock)
        log.open()
        return log

    log = opened()
    assert log.reach == 0
    clock.now += 100
    log.add_many([numbered(1)])
    assert log.reach == 100
    log.close()
    log = opened()
    assert log.reach == 100, "a restart changes nothing"
    log.state.belongs_to("abc")
    for n in range(60):
        clock.now += 10
        log.add_many([numbered(n)])
    assert 0 < log.reach < 600, "more than the copy may hold: the oldest are gone"
    log.close()
    assert opened().state.generation == "abc"
    clock.now += 7200
    assert log.reach == 3600, "its window"


def test_a_copy_that_cannot_be_written_is_seen_until_it_can(tmp_path: Path) -> None:
    clock, directory = Clock(), tmp_path / "copy"
    log = AckLog(directory, window=3600, max_bytes=8_000, clock=clock, monotonic=clock)
    log.open()
    clock.now += 100
    log.add_many([numbered(1)])
    assert (log.writable, log.reach) == (True, 100)
    aside = directory.rename(tmp_path / "aside")
    directory.touch()
    clock.now += 100  # the next one begins a file
    log.add_many([numbered(2)])
    assert (log.writable, log.reach) == (False, 0)
    directory.unlink()
    aside.rename(directory)
    log.add_many([numbered(3)])
    assert log.writable
    log.close()
