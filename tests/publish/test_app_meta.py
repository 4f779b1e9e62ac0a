"""The hash ``meta`` of an app: its names, its expiry, and its renewal."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import redis

from app.config.model import Settings
from app.publish.publisher import names_of_apps
from app.store.app_meta import META_SECONDS, RENEW_SECONDS, AppMetas, AppNames
from app.store.topology import connect
from backchannel_logout import AppKeys
from tests.support.revocations import new_app
from tests.support.servers.redis_server import RedisServer

OURS = AppNames(issuers=("https://op.example/", "https://alias.example/"), client_ids=("shop-web",))


class Receiver:
    """One receiver's ``meta`` of one app, with a clock that a test moves."""

    def __init__(self, url: str, app: str, names: AppNames = OURS, age: int = 3600) -> None:
        self.url, self.app = url, app
        self.now = time.time()
        self.metas = AppMetas(
            {app: age}, {app: names}, clock=lambda: self.now, monotonic=lambda: self.now
        )

    async def look(self) -> bool:
        client: Any = connect(self.url)
        try:
            return await self.metas.write(client, [self.app])
        finally:
            await client.aclose()


class Meta:
    """The hash as the app reads it."""

    def __init__(self, client: redis.Redis, app: str) -> None:
        self.client, self.key = client, AppKeys(app).meta

    def fields(self) -> dict[str, str]:
        fields: Any = self.client.hgetall(self.key)
        return dict(fields)

    def names(self, kind: str) -> list[str]:
        names: list[str] = json.loads(self.fields()[kind])
        return names

    def seconds_left(self) -> int:
        seconds: Any = self.client.ttl(self.key)
        return int(seconds)


@pytest.fixture
def app() -> str:
    return new_app()


@pytest.fixture
def url(shared_redis: RedisServer) -> str:
    return shared_redis.url


@pytest.fixture
def meta(shared_redis: RedisServer, app: str) -> Iterator[Meta]:
    with shared_redis.client() as client:
        yield Meta(client, app)


async def test_meta_names_every_issuer_and_client_and_expires_after_a_day(
    url: str, app: str, meta: Meta
) -> None:
    assert await Receiver(url, app).look() is True
    assert meta.fields() | {"named_at": ""} == {
        "v": "1",
        "max_session_age": "3600",
        "issuers": '["https://alias.example/","https://op.example/"]',
        "client_ids": '["shop-web"]',
        "named_at": "",
    }
    assert META_SECONDS - 10 < meta.seconds_left() <= META_SECONDS


async def test_meta_is_renewed_once_a_minute_and_not_at_each_check(
    url: str, app: str, meta: Meta
) -> None:
    receiver = Receiver(url, app)
    await receiver.look()
    for seconds, renewed in ((1.0, False), (RENEW_SECONDS, True), (1.0, False)):
        receiver.now += seconds
        meta.client.expire(meta.key, 100)
        assert await receiver.look() is False
        assert (meta.seconds_left() > 100) is renewed, seconds


async def test_meta_of_an_earlier_release_without_an_expiry_gets_one(
    url: str, app: str, meta: Meta
) -> None:
    meta.client.hset(meta.key, mapping={"v": "1", "max_session_age": "3600"})
    assert await Receiver(url, app).look() is False, "it was not missing"
    assert meta.seconds_left() > 0
    assert meta.names("client_ids") == ["shop-web"]


@pytest.mark.parametrize("first", ["old", "new"])
async def test_receivers_with_different_settings_keep_each_others_names(
    first: str, url: str, app: str, meta: Meta
) -> None:
    """As in a rolling update: neither removes what the other one serves, whichever looks last and
    whatever recovers from an outage.
    """
    old = Receiver(url, app)
    new = Receiver(url, app, AppNames(("https://op.example/", "https://two.example"), ("two",)))
    for receiver in (old, new) if first == "old" else (new, old):
        await receiver.look()
    seen = []
    for _ in range(3):
        for receiver in (old, new):
            receiver.now += RENEW_SECONDS
            await receiver.look()
            seen.append((meta.fields()["issuers"], meta.fields()["client_ids"]))
    assert set(seen) == {
        (
            '["https://alias.example/","https://op.example/","https://two.example"]',
            '["shop-web","two"]',
        )
    }


async def test_a_name_that_is_not_renewed_is_removed_after_a_day(
    url: str, app: str, meta: Meta
) -> None:
    await Receiver(url, app).look()
    left = Receiver(url, app, AppNames(("https://op.example/",), ("shop-web",)))
    left.now += META_SECONDS - 60
    await left.look()
    assert meta.names("issuers") == ["https://alias.example/", "https://op.example/"]
    left.now += 120
    await left.look()
    assert meta.names("issuers") == ["https://op.example/"]


LOST: Mapping[str, Any] = {
    "everything": lambda meta: meta.client.delete(meta.key),
    "the issuers": lambda meta: meta.client.hdel(meta.key, "issuers"),
    "a client id": lambda meta: meta.client.hset(meta.key, "client_ids", "[]"),
    "what cannot be read": lambda meta: meta.client.hset(meta.key, "issuers", "[1"),
    "the age": lambda meta: meta.client.hset(meta.key, "max_session_age", "60"),
    "the times": lambda meta: (
        meta.client.hset(meta.key, "named_at", '{"issuers": [], "client_ids": 3}'),
        meta.client.hdel(meta.key, "issuers"),
    ),
}


@pytest.mark.parametrize("lose", LOST.values(), ids=LOST)
async def test_lost_meta_is_restored_by_one_check(
    lose: Any, url: str, app: str, meta: Meta
) -> None:
    receiver = Receiver(url, app)
    await receiver.look()
    before = meta.fields()
    lose(meta)
    await receiver.look()
    assert meta.fields() == before
    assert meta.seconds_left() > 0


async def test_a_user_without_the_right_to_expire_meta_serves_the_app_and_logs_it_once(
    shared_redis: RedisServer, app: str, meta: Meta, caplog: pytest.LogCaptureFixture
) -> None:
    """The ACL rule of an earlier release lacks that right."""
    name = f"old-{app}"
    meta.client.execute_command("ACL", "SETUSER", name, "on", ">pw", "~*", "&*", "+@all", "-expire")
    receiver = Receiver(shared_redis.url.replace("//", f"//{name}:pw@"), app)
    try:
        for _ in range(3):
            await receiver.look()
            receiver.now += RENEW_SECONDS
    finally:
        meta.client.execute_command("ACL", "DELUSER", name)
    assert meta.names("client_ids") == ["shop-web"]
    assert caplog.text.count("meta_expiry") == 1


def test_the_names_come_from_every_issuer_and_client_of_the_app() -> None:
    def issuer(name: str, *clients: tuple[str, str], **more: object) -> dict[str, object]:
        of = [{"client_id": client_id, "app": app} for client_id, app in clients]
        return {"issuer": name, "clients": of} | more

    settings = Settings.model_validate(
        {
            "redis_url": "redis://localhost",
            "issuers": [
                issuer("https://a.example", ("web", "shop"), ("job", "shop"), ("w", "wiki")),
                issuer("https://b.example", ("app", "shop"), aliases=["https://c.example"]),
            ],
        }
    )
    names = names_of_apps(settings)
    assert {*names["shop"].issuers} == {
        "https://a.example", "https://b.example", "https://c.example",
    }  # fmt: skip
    assert names["shop"].client_ids == ("web", "job", "app")
    assert names["wiki"] == AppNames(("https://a.example",), ("w",))
