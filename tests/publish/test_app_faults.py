"""The fault of one app stays with it: other apps are written, and the fault is named."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.store.app_faults import QUOTA, AppFaults
from app.store.app_meta import AppMetas
from backchannel_logout import AppKeys
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, run_app, wait_for
from tests.support.scrape import Scrape
from tests.support.servers.redis_server import RedisServer
from tests.support.store_fixtures import NewAppStore

CLIENTS = (
    "[" + ", ".join(f'{{client_id = "{app}", app = "{app}"}}' for app in ("shop", "new")) + "]"
)
RULE = "+@all -@admin -@dangerous +info ~bcl:v1:{shop}:* ~bcl:v1:audit ~bcl:v1:refused &*"


class World:
    """A receiver for the apps ``shop`` and ``new``, whose Redis user has rights to ``shop``."""

    def __init__(self, receiver: Receiver, look: redis.Redis, provider: Provider) -> None:
        self.receiver, self.look, self.provider = receiver, look, provider

    def post(self, app: str, sid: str) -> int:
        return self.receiver.post(self.provider.token(aud=app, sid=sid)).status_code

    def written(self, app: str) -> int:
        return len(list(self.look.scan_iter(f"{AppKeys(app).prefix}sid:*")))

    def faults(self) -> dict[str, str]:
        faults: dict[str, str] = self.receiver.readyz().json().get("apps_not_writable", {})
        return faults

    def user(self, *rules: str) -> None:
        self.look.execute_command("ACL", "SETUSER", "receiver", *rules)

    def run(self, command: str, *arguments: str) -> Any:
        return run_app(command, *arguments, cwd=self.receiver.directory)


@pytest.fixture
def world(provider: Provider, redis_server: RedisServer, tmp_path: Path) -> Iterator[World]:
    with redis_server.client() as look:
        look.execute_command("ACL", "SETUSER", "receiver", "on", ">secret", *RULE.split())
        url = redis_server.url.replace("//", "//receiver:secret@")
        issuer = f'issuer = "{provider.issuer}"'
        receiver = Receiver(tmp_path, config(url, issuer, clients=CLIENTS))
        receiver.start()
        yield World(receiver, look, provider)
        receiver.stop()


def test_an_app_without_rights_stops_no_other_one_and_is_named_everywhere(world: World) -> None:
    assert {world.post("shop", f"s{n}") for n in range(20)} == {200}
    assert world.written("shop") == 20, "in Redis before the answer"
    assert {world.post("new", f"n{n}") for n in range(5)} == {200}
    assert world.faults() == {"new": "NOPERM"}
    state = world.receiver.readyz().json()
    assert (state["ready"], state["redis"]["writable"]) == (True, True)
    assert state["journal"]["waiting"] == 5
    scrape = Scrape(world.receiver)
    assert scrape.total("bcl_app_writable", app="new") == 0
    assert scrape.total("bcl_app_writable", app="shop") is None
    assert scrape.total("bcl_redis_writable") == 1
    world.receiver.wait_for_log_event("redis", outcome="app_not_writable", app="new")

    checked = world.run("check", "--config", "settings.toml")
    assert checked.returncode == 1
    (row,) = [line for line in checked.stdout.splitlines() if line.split()[1:3] == ["app", "new"]]
    assert row.startswith("WRONG"), row
    assert "may not run the script on its keys" in row

    world.user("~bcl:v1:{new}:*")
    wait_for(lambda: world.written("new") == 5, "what waited is written", world.receiver)
    wait_for(lambda: not world.faults(), "the fault has ended", world.receiver)
    world.receiver.wait_for_log_event("redis", outcome="app_writable", app="new")
    meta = AppKeys("new").meta
    wait_for(lambda: world.look.hget(meta, "max_session_age"), "it is served", world.receiver)
    assert world.run("check", "--config", "settings.toml").returncode == 0


def test_rights_that_are_taken_away_are_noticed_without_a_logout(world: World) -> None:
    world.user("~bcl:v1:{new}:*")
    wait_for(lambda: not world.faults(), "both can be written", world.receiver)
    world.user("resetkeys", "~bcl:v1:{shop}:*")
    wait_for(lambda: world.faults() == {"new": "NOPERM"}, "it is noticed", world.receiver)
    assert world.post("shop", "s") == 200
    assert world.written("shop") == 1


def test_a_key_of_a_wrong_type_is_the_fault_of_its_app(world: World) -> None:
    world.user("~bcl:v1:{new}:*")
    wait_for(lambda: not world.faults(), "both can be written", world.receiver)
    world.look.delete(AppKeys("new").events)
    world.look.set(AppKeys("new").events, "not a stream")
    assert world.post("new", "n") == 503, "nothing will write it soon"
    assert world.faults() == {"new": "WRONGTYPE"}
    assert world.post("shop", "s") == 200
    world.look.delete(AppKeys("new").events)
    assert world.post("new", "n2") == 200
    assert world.faults() == {}


def test_without_rights_to_any_app_redis_is_what_fails(world: World) -> None:
    world.user("resetkeys")
    wait_for(
        lambda: world.receiver.readyz().json()["redis"]["error"] == "NOPERM",
        "it is the server's fault",
        world.receiver,
    )
    assert world.faults() == {}
    assert world.post("shop", "s") == 200
    world.user(*RULE.split())
    wait_for(lambda: world.written("shop") == 1, "it is written later", world.receiver)


def test_an_app_over_its_quota_is_named(
    provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    issuer, top = f'issuer = "{provider.issuer}"', "marker_quota = 3"
    receiver = Receiver(tmp_path, config(redis_server.url, issuer, top=top, clients=CLIENTS))
    receiver.start()
    try:
        answers = [
            receiver.post(provider.token(aud="new", sid=f"n{n}")).status_code for n in range(5)
        ]
        assert answers == [200] * 3 + [503] * 2
        assert receiver.readyz().json()["apps_not_writable"] == {"new": QUOTA}
        assert receiver.post(provider.token(aud="shop", sid="s")).status_code == 200
    finally:
        receiver.stop()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_fault_of_a_write_is_forgotten_unless_it_is_repeated() -> None:
    clock = Clock()
    faults = AppFaults(monotonic=clock)
    faults.write_refused("new", "NOPERM")
    clock.now += 50
    faults.write_refused("new", "NOPERM")
    clock.now += 50
    assert faults.words == {"new": "NOPERM"}
    clock.now += 50
    assert (faults.words, faults.repaired) == ({}, True)


def test_what_meta_shows_outlasts_a_write_that_works() -> None:
    faults = AppFaults()
    faults.meta_refused("new", "NOPERM")
    faults.write_refused("new", "NOPERM")
    faults.written("new")
    assert (faults.words, faults.repaired) == ({"new": "NOPERM"}, True)
    faults.meta_written("new")
    assert faults.words == {}


@pytest.mark.parametrize(("number", "most"), [(3, 3), (1_000, 50), (10_000, 84)])
def test_each_check_looks_at_few_apps_and_a_cycle_at_all(number: int, most: int) -> None:
    """The cost of an idle receiver must not grow with its apps times the receivers."""
    apps = [f"app-{n}" for n in range(number)]
    metas = AppMetas(dict.fromkeys(apps, 60), {})
    metas.checked(apps)
    turns = [metas.turn() for _ in range(120)]
    assert {len(turn) for turn in turns} == {most}
    assert {app for turn in turns for app in turn} == {*apps}


async def test_the_first_checks_write_every_meta(
    new_app_store: NewAppStore, redis_server: RedisServer
) -> None:
    store = new_app_store(redis_server, apps={f"app-{n}": 60 for n in range(1_200)})
    server, metas = await store.link.primary("app-1"), store.store.metas
    checks = 0
    while metas.urgent:
        checks += 1
        await metas.write(server, metas.turn())
    assert checks <= 3
    written = [key async for key in server.scan_iter("bcl:v1:*:meta", count=1_000)]
    assert len(written) == 1_200
