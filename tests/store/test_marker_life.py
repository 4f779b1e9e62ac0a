"""Receivers with different values of ``max_session_age``, and a value that was raised."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.revocation import MARKER_MARGIN_SECONDS
from app.store.app_meta import AppMetas, AppNames
from app.store.marker_life import MarkerExtension, extend_markers
from app.store.session_ages import Raise
from app.store.topology import RedisTopology, connect
from backchannel_logout import AppKeys, Session, SessionGuard
from tests.support.patience import PATIENCE
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, run_app, wait_for
from tests.support.revocations import new_app
from tests.support.scrape import Scrape
from tests.support.servers.redis_server import RedisServer

ISS = "https://op.example"
HOUR, DAY = 3600, 86400


class Side:
    """One receiver's view of the app's ``meta``, with a clock that a test moves."""

    def __init__(self, server: RedisServer, app: str, age: int, name: str = "a") -> None:
        self.app, self.now = app, time.time()
        self.topology = RedisTopology(connect(server.url))
        self.metas = AppMetas(
            {app: age}, {app: AppNames((ISS,), ("web",))}, receiver=name,
            clock=lambda: self.now, monotonic=lambda: self.now,
        )  # fmt: skip
        self.extension = MarkerExtension(self.metas, self.topology)

    async def look(self) -> None:
        await self.metas.write(await self.topology.primary(self.app), [self.app])

    async def extend(self) -> None:
        """Until nothing is to be extended."""
        await self.look()
        while self.metas.ages.to_extend:
            await self.extension.extend()
            await self.look()
            await self.look()


NewSide = Callable[..., Side]


@pytest.fixture
def app() -> str:
    return new_app()


@pytest.fixture
async def side(shared_redis: RedisServer, app: str) -> AsyncIterator[NewSide]:
    """Make sides of the app: ``side(age, name)``."""
    sides: list[Side] = []

    def make(age: int, name: str = "a") -> Side:
        sides.append(Side(shared_redis, app, age, name))
        return sides[-1]

    yield make
    for each in sides:
        await each.topology.aclose()


@pytest.fixture
def look(shared_redis: RedisServer) -> Iterator[Any]:
    with shared_redis.client() as client:
        yield client


def age_of(look: redis.Redis, app: str) -> str | None:
    age: Any = look.hget(AppKeys(app).meta, "max_session_age")
    return age


async def test_the_larger_of_two_values_wins_and_both_receivers_leave_it(
    side: NewSide, app: str, look: redis.Redis
) -> None:
    small, large = side(HOUR, "small"), side(DAY, "large")
    await small.look()
    await large.extend()
    seen = set()
    for _ in range(3):
        for each in (small, large):
            each.now += 61
            await each.look()
            seen.add(age_of(look, app))
    assert seen == {str(DAY)}
    assert small.metas.ages.conflicts[app] == (HOUR, DAY, "large")
    assert large.metas.ages.conflicts == {}


async def test_a_value_that_nobody_has_any_more_ends_after_a_day(
    side: NewSide, app: str, look: redis.Redis
) -> None:
    await side(DAY, "before").look()
    after = side(HOUR, "after")
    after.now += 10
    await after.look()
    assert age_of(look, app) == str(DAY)
    assert after.metas.ages.conflicts == {}, "it was lowered: no other receiver has it"
    after.now += DAY
    await after.look()
    assert age_of(look, app) == str(HOUR)


async def test_a_raised_value_comes_in_force_once_the_markers_live_as_long(
    side: NewSide, app: str, look: redis.Redis
) -> None:
    keys, now = AppKeys(app), int(time.time())
    await side(HOUR).look()
    markers = {keys.sid(ISS, "s"): now, keys.sub(ISS, "alice"): now - 600}
    for marker, cutoff in markers.items():
        look.set(marker, cutoff, ex=HOUR)
    look.set(keys.jti(ISS, "j", None, None), 1, ex=HOUR)
    raised = side(DAY)
    await raised.look()
    assert age_of(look, app) == str(HOUR)
    await raised.extend()
    assert age_of(look, app) == str(DAY)
    for marker, cutoff in markers.items():
        assert look.get(marker) == str(cutoff)
        assert look.ttl(marker) == pytest.approx(cutoff + DAY + MARKER_MARGIN_SECONDS - now, abs=60)
    assert look.ttl(keys.jti(ISS, "j", None, None)) <= HOUR
    assert look.hget(keys.meta, "extend_from") == ""


async def test_an_extension_that_was_interrupted_is_finished_by_any_receiver(
    side: NewSide, app: str, look: redis.Redis
) -> None:
    """The first pass is over and the new value in force; then its receiver crashed."""
    keys = AppKeys(app)
    await side(HOUR).look()
    first = side(DAY, "first")
    await first.look()
    await first.extension.extend()
    await first.look()
    assert (age_of(look, app), look.hget(keys.meta, "extend_from")) == (str(DAY), str(HOUR))
    look.set(keys.sid(ISS, "between"), int(time.time()), ex=HOUR)
    await side(DAY, "second").extend()
    assert look.ttl(keys.sid(ISS, "between")) > DAY
    assert look.hget(keys.meta, "extend_from") == ""


async def test_sessions_whose_marker_has_expired_stay_ended(
    side: NewSide, app: str, shared_redis: RedisServer
) -> None:
    """They were too old before. With the larger value they would be young enough again."""
    now = int(time.time())
    await side(HOUR).look()
    old = Session(ISS, login_at=now - 3 * HOUR, sid="its marker is gone", client_id="web")
    young = Session(ISS, login_at=now - HOUR // 2, sid="never ended", client_id="web")
    with SessionGuard(shared_redis.url, app=app, timeout=PATIENCE) as guard:
        assert [guard.is_revoked(old), guard.is_revoked(young)] == [True, False]
    await side(DAY).extend()
    with SessionGuard(shared_redis.url, app=app, timeout=PATIENCE) as guard:
        assert [guard.is_revoked(old), guard.is_revoked(young)] == [True, False]


async def test_it_shortens_nothing_and_leaves_other_keys_alone(
    side: NewSide, app: str, look: redis.Redis
) -> None:
    keys, now = AppKeys(app), int(time.time())
    long, forever, odd = keys.sid(ISS, "long"), keys.sid(ISS, "forever"), keys.sid(ISS, "odd")
    look.set(long, now, ex=9 * DAY)
    look.set(forever, now)
    look.hset(odd, "a", "b")
    other = AppKeys(new_app()).sid(ISS, "other")
    look.set(other, now, ex=HOUR)
    large = side(DAY)
    server = await large.topology.primary(app)
    for _ in range(2):
        done = await extend_markers(server, {app: Raise(HOUR, DAY)}, large.metas.issuers)
        assert done == {app: 0}
    assert look.ttl(long) > 8 * DAY
    assert look.ttl(forever) == -1
    assert look.hgetall(odd) == {"a": "b"}
    assert look.ttl(other) <= HOUR


def test_two_receivers_with_different_values_are_named(
    provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    text = config(redis_server.url, f'issuer = "{provider.issuer}"')
    small, large = (
        Receiver(tmp_path / str(age), f"max_session_age = {age}\n" + text) for age in (HOUR, DAY)
    )
    with redis_server.client() as look:
        try:
            small.start()
            large.start()
            wait_for(lambda: age_of(look, "shop") == str(DAY), "the larger one wins", large)
            gauge = "bcl_max_session_age_conflict"
            wait_for(lambda: Scrape(small).total(gauge) == 1, "it is counted", small)
            (conflict,) = small.readyz().json()["max_session_age_conflicts"].values()
            assert (conflict["own"], conflict["in_force"]) == (HOUR, DAY)
            assert large.process is not None
            assert conflict["receiver"].endswith(f"/{large.process.pid}")
            assert Scrape(large).total(gauge) == 0
            checked = run_app("check", "--config", "settings.toml", cwd=small.directory)
            assert conflict["receiver"] in checked.stdout
            # Markers of either live long enough for the sessions of both.
            assert small.post(provider.token(sid="s")).status_code == 200
            (marker,) = look.keys("bcl:v1:{shop}:sid:*")
            assert look.ttl(marker) > DAY
        finally:
            small.stop()
            large.stop()


def test_the_command_extends_and_a_dry_run_only_counts(
    provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    text = config(redis_server.url, f'issuer = "{provider.issuer}"')
    (tmp_path / "settings.toml").write_text(f"max_session_age = {DAY}\n" + text)
    keys, now = AppKeys("shop"), int(time.time())
    marker = keys.sid(provider.issuer, "s")

    def run(*arguments: str) -> str:
        ended = run_app("extend-markers", "--config", "settings.toml", *arguments, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    with redis_server.client() as look:
        look.hset(keys.meta, mapping={"v": "1", "max_session_age": str(HOUR)})
        look.set(marker, now, ex=HOUR)
        assert run("--dry-run") == "app shop: 1 markers, for sessions of 86400 s\n"
        assert (look.ttl(marker) <= HOUR, age_of(look, "shop")) == (True, str(HOUR))
        assert run() == "app shop: 1 markers extended, for sessions of 86400 s\n"
        assert (look.ttl(marker) > DAY, age_of(look, "shop")) == (True, str(DAY))
        assert "0 markers extended" in run()
    wrong = run_app("extend-markers", "--config", "settings.toml", "--app", "x", cwd=tmp_path)
    assert wrong.returncode == 2
