"""The ACL rules of `docs/contract.md` allow each user what it needs, and nothing else."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import redis

from app.config.model import Settings
from app.history import History, RevocationQuery
from app.store.app_meta import AppMetas, AppNames
from app.store.topology import RedisTopology, connect
from backchannel_logout import (
    AppKeys,
    AsyncListener,
    Event,
    EventKind,
    Reader,
    ReaderKind,
    Session,
    SessionGuard,
)
from backchannel_logout.redis import connection
from tests.support.apps.guards import ALICE, KINDS, NEIGHBOUR, WarmGuard
from tests.support.apps.listening import QUICK, ListenerProcess, RecordingListener, Stream, until
from tests.support.contract import block
from tests.support.patience import PATIENCE
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, run_app
from tests.support.servers.redis_server import RedisServer

CRM = AppKeys("crm")
"""An app that no rule names."""


APPS = ("shop", "wiki")
"""The apps in the rules."""

REFUSED = r"(?i)no permission|NOPERM|can't access"


@dataclass(frozen=True)
class GuardWithRights:
    """A server with the contract's users."""

    server: RedisServer
    passwords: dict[str, str]
    old: bool
    """With the rules for Redis 6.2, which do not let a listener read `meta`."""

    def url(self, user: str) -> str:
        return self.server.url.replace("//", f"//{user}:{self.passwords[user]}@")

    def client(self, user: str) -> "redis.Redis":
        client = connection.connect(self.url(user), timeout=PATIENCE, decode_responses=True)
        assert isinstance(client, redis.Redis)
        return client

    def may_not(self, user: str, *commands: str) -> None:
        """Redis refuses every command to the user."""
        with self.client(user) as client:
            for command in commands:
                with pytest.raises(redis.ResponseError, match=REFUSED):
                    client.execute_command(*command.split())


@pytest.fixture(scope="module", params=["acl", "acl-6.2"])
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GuardWithRights]:
    """The rules as written in the contract."""
    directory = tmp_path_factory.mktemp(request.param)
    rules = block(request.param)
    users = directory / "users.acl"
    users.write_text("user default on nopass ~* &* +@all\n")
    server = RedisServer(directory / "redis", "--aclfile", str(users)).start()
    try:
        users.write_text(rules)
        with server.client() as client:
            if "%R~" in rules and client.info("server")["redis_version"].startswith("6."):
                pytest.skip("a Redis before 7 has no read-only key patterns")
            client.acl_load()
        passwords = dict(re.findall(r"^user (\S+) on >(\S+)", rules, re.MULTILINE))
        yield GuardWithRights(server, passwords, old=request.param == "acl-6.2")
    finally:
        server.stop()


def test_the_rules_for_redis_6_only_lack_what_it_cannot_express() -> None:
    six, seven = block("acl-6.2").splitlines(), block("acl").splitlines()
    listeners = [line for line in (*six, *seven) if line.startswith("user shop-listener ")]
    plain = [
        re.sub(r" \(.*\)", "", line.replace("%R~", "~")) for line in seven if line not in listeners
    ]
    assert [line for line in six if line not in listeners] == plain
    old, new = (set(re.findall(r"\+\S+", line.replace(")", ""))) for line in listeners)
    assert new - old == {"+mget"}, "in Redis 6.2 a listener reads no markers"


NEWEST = pytest.mark.parametrize("guarded", ["acl"], indirect=True)
"""Module scope, since starting a receiver is slow; its rule is the same in both."""


@pytest.mark.slow
@NEWEST
def test_the_happy_path_runs_as_the_users_of_the_contract(
    guarded: GuardWithRights, provider: Provider, tmp_path: Path
) -> None:
    """Nothing is refused from start to end: ready, accept, write, query, listen."""
    clients = ", ".join(f'{{client_id = "{app}-web", app = "{app}"}}' for app in APPS)
    issuer = f'issuer = "{provider.issuer}"'
    toml = config(guarded.url("receiver"), issuer, clients=f"[{clients}]")
    receiver = Receiver(tmp_path, toml)
    keys = AppKeys("shop")

    def is_revoked(app: str, sid: str) -> bool:
        session = Session(provider.issuer, login_at=int(time.time()) - 10, sid=sid)
        with SessionGuard(guarded.url(f"{app}-guard"), app=app, timeout=PATIENCE) as guard:
            return guard.is_revoked(session)

    with guarded.client("admin") as admin, guarded.client("shop-listener") as listener:
        admin.acl_log_reset()
        try:
            receiver.start()
            with listener.pubsub() as feed:
                feed.subscribe(keys.feed)
                assert feed.get_message(timeout=5)
                assert receiver.post(provider.token(aud="shop-web", sid="desk")).status_code == 200
                message = feed.get_message(timeout=5)
            assert message is not None
            newest: Any = listener.xrevrange(keys.events, count=1)
            [(entry_id, fields)] = newest
            assert Event.from_fields(fields, entry_id) == Event.from_json(message["data"])
            assert is_revoked("shop", "desk")
            assert not is_revoked("shop", "phone")
            assert not is_revoked("wiki", "desk"), "the token was for the shop alone"

            token = provider.token(aud=["shop-web", "wiki-web"], sid="phone")
            for _ in range(2):  # the second one is a repeat
                assert receiver.post(token).status_code == 200
            assert is_revoked("shop", "phone")
            assert is_revoked("wiki", "phone")
            assert receiver.readyz().status_code == 200
        finally:
            receiver.stop()
        assert admin.acl_log() == []


@pytest.mark.slow
@NEWEST
def test_check_finds_nothing_that_it_may_not_see(
    guarded: GuardWithRights, provider: Provider, tmp_path: Path
) -> None:
    tmp_path.joinpath("settings.toml").write_text(
        config(guarded.url("receiver"), f'issuer = "{provider.issuer}"')
    )
    ran = run_app("check", "--config", "settings.toml", cwd=tmp_path)
    assert "append-only file" in ran.stdout, ran.stdout + ran.stderr
    assert "may not run" not in ran.stdout


def test_no_user_connects_without_a_password(guarded: GuardWithRights) -> None:
    with guarded.server.client() as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_a_guard_reads_no_other_app(guarded: GuardWithRights) -> None:
    shop, wiki = AppKeys("shop"), AppKeys("wiki")
    with guarded.client("shop-guard") as client:
        client.mget(shop.sid("i", "s"), shop.sub("i", "s"), shop.all("i"))
        client.hget(shop.meta, "max_session_age")
        client.xread({shop.events: "0-0"})
    guarded.may_not(
        "shop-guard",
        f"GET {wiki.sid('i', 's')}", f"MGET {shop.sid('i', 's')} {wiki.sid('i', 's')}",
        f"HGET {wiki.meta} max_session_age", "KEYS *", "SCAN 0", "RANDOMKEY", "DUMP x",
        f"XREAD STREAMS {wiki.events} 0", f"XRANGE {wiki.events} - +", f"HGETALL {wiki.readers}",
        f"XREAD STREAMS {shop.events} {wiki.events} 0 0", f"HSET {wiki.readers} a b",
    )  # fmt: skip


def test_a_guard_neither_deletes_nor_writes_nor_publishes(guarded: GuardWithRights) -> None:
    """Not even its own app's markers: an app cannot undo a logout."""
    shop = AppKeys("shop")
    marker = shop.sid("i", "s")
    guarded.may_not(
        "shop-guard",
        f"DEL {marker}", f"UNLINK {marker}", f"SET {marker} 0", f"EXPIRE {marker} 1",
        f"GETDEL {marker}", f"GETEX {marker} EX 1", f"RENAME {marker} x", f"INCRBY {marker} -9",
        f"HSET {shop.meta} max_session_age 1", f"XADD {shop.events} * v 1", f"DEL {shop.events}",
        f"PUBLISH {shop.feed} x", f"SUBSCRIBE {shop.feed}", "EVAL return 0", "FLUSHALL",
        "CONFIG GET *", "ACL LIST", "SHUTDOWN", "SWAPDB 0 1",
        f"XDEL {shop.events} 1-1", f"XTRIM {shop.events} MAXLEN 0", f"EXPIRE {shop.events} 1",
        f"XGROUP CREATE {shop.events} g 0", f"DEL {shop.readers}", f"SET {shop.readers} x",
        f"HSET {shop.prefix}app:x a b", f"HSET {shop.receipts} a b",
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_a_guard_keeps_its_near_cache_with_these_rights(
    kind: str, guarded: GuardWithRights
) -> None:
    """Nothing is refused, except that Redis 6.2 refuses its report, once."""
    shop = AppKeys("shop")
    with guarded.client("admin") as admin:
        admin.delete(shop.readers, shop.meta)
        admin.hset(shop.meta, mapping={"v": "1", "max_session_age": "3600"})
        admin.acl_log_reset()
        guard = WarmGuard(kind, guarded.url("shop-guard"), "shop")
        try:
            await guard.warm(ALICE, NEIGHBOUR)
            admin.set(shop.sid(ALICE.iss, "s1"), ALICE.login_at)
            fields = Event(
                kind=EventKind.SESSION, iss=ALICE.iss, sid="s1", cutoff=ALICE.login_at,
                app="shop", source="test", received_at=0.0,
            ).to_fields()  # fmt: skip
            admin.xadd(shop.events, fields)  # type: ignore[arg-type]
            await guard.sees_the_end_of(ALICE)
            reported = admin.hlen(shop.readers)
        finally:
            await guard.aclose()
            admin.delete(shop.sid(ALICE.iss, "s1"))
        refused = {entry["object"] for entry in admin.acl_log()}
        if guarded.old:
            assert (reported, refused) == (0, {"hlen", "hset", "expire"})
        else:
            assert (reported, refused) == (1, set())
        assert admin.hkeys(shop.readers) == ([] if guarded.old else ["ended"])
        admin.delete(shop.readers)


def test_a_guard_without_a_near_cache_reports_if_it_may(guarded: GuardWithRights) -> None:
    """The rules for Redis 6.2 forbid it: it checks anyway, and tries once."""
    shop = AppKeys("shop")
    with guarded.client("admin") as admin:
        admin.hset(
            shop.meta,
            mapping={
                "v": "1",
                "max_session_age": "99999999999",
                "issuers": json.dumps([ALICE.iss]),
            },
        )
        admin.delete(shop.readers)
        admin.acl_log_reset()
        with SessionGuard(guarded.url("shop-guard"), app="shop", timeout=PATIENCE) as guard:
            for _ in range(3):
                assert guard.is_revoked(ALICE) is False
        reported: Any = admin.hgetall(shop.readers)
        refused = {entry["object"] for entry in admin.acl_log()}
        admin.delete(shop.readers, shop.meta)
    if guarded.old:
        assert (reported, refused) == ({}, {"hset", "expire"})
        return
    report = Reader.from_json("asks", reported["asks"])
    assert report is not None
    assert (report.kind, report.sid) == (ReaderKind.ASKS, {ALICE.iss: True})
    assert refused == set()


async def test_the_receiver_renews_the_life_of_meta_with_these_rights(
    guarded: GuardWithRights,
) -> None:
    shop = AppKeys("shop")
    client: Any = connect(guarded.url("receiver"))
    names = AppNames(("https://op.example",), ("shop-web",))
    with guarded.client("admin") as admin:
        admin.acl_log_reset()
        await AppMetas({"shop": 60}, {"shop": names}).write(client, ["shop"])
        await client.aclose()
        assert admin.ttl(shop.meta) > 0
        assert admin.acl_log() == []
        admin.delete(shop.meta)


def test_the_receiver_writes_nothing_but_the_contracts_keys(guarded: GuardWithRights) -> None:
    """Neither by a command nor from a script; nor what the apps' own developers keep."""
    own = AppKeys("shop").prefix + "app:x"
    guarded.may_not(
        "receiver",
        "GET session:1", "SET session:1 1", f"SET {own} 1", f"HSET {own} a b",
        f"DEL {AppKeys('shop').sid('i', 's')}", f"DEL {CRM.events}", f"EXISTS {CRM.prefix}other",
        "GET bcl:v1:other", "PUBLISH other x", "FLUSHALL", "KEYS *", "CONFIG GET *", "ACL LIST",
        "SUBSCRIBE x",
    )  # fmt: skip
    script = "return redis.call('GET', ARGV[1])"
    with guarded.client("receiver") as client:
        for keys in (["session:1", "session:1"], ["session:1"]):
            with pytest.raises(redis.ResponseError, match=REFUSED):
                client.eval(script, len(keys) - 1, *keys)


def test_an_app_needs_no_rule_of_its_own_for_the_receiver(guarded: GuardWithRights) -> None:
    with guarded.client("receiver") as client:
        client.set(CRM.sid("i", "s"), 1)
        client.hset(CRM.meta, "v", "1")
        client.publish(CRM.feed, "x")
    with guarded.client("admin") as admin:
        admin.delete(CRM.sid("i", "s"), CRM.meta)


async def test_the_receivers_user_may_read_everything_for_the_history(
    guarded: GuardWithRights,
) -> None:
    """Except for an app's own reports, where the rules cannot express read-only."""
    shop = AppKeys("shop")
    client = {"client_id": "shop-web", "app": "shop"}
    issuer = {"issuer": "https://op.example", "clients": [client]}
    settings = Settings.model_validate({"redis_url": guarded.url("receiver"), "issuers": [issuer]})
    link = RedisTopology(connect(guarded.url("receiver")))
    with guarded.server.client(username="admin", password=guarded.passwords["admin"]) as admin:
        admin.hset(shop.meta, mapping={"v": "1", "max_session_age": "3600"})
        admin.xadd(shop.events, event_of("acl").to_fields())  # type: ignore[arg-type]
        admin.xadd(shop.receipts, {"v": "1"})
        admin.xadd(shop.dead_letters, {"dl_event": "1-1"})
        history = History(settings, link)
        (app,) = await history.overviews()
        (story,) = await history.app_histories(RevocationQuery(iss="https://op.example", sid="acl"))
        assert (app.fault, story.fault, len(story.events)) == (None, None, 1)
        assert app.dead_letters == (0 if guarded.old else 1)
        assert len(await history.recent()) >= 1
        assert await history.refusals() == []
        assert await history.audit() == []
        admin.delete(shop.meta, shop.events, shop.receipts, shop.dead_letters)
    await link.aclose()


def event_of(sid: str) -> Event:
    return Event(
        kind=EventKind.SESSION, iss="https://op.example", sid=sid, cutoff=1_795_283_041,
        app="shop", source="admin", received_at=1_795_283_041.5,
    )  # fmt: skip


def test_a_listener_writes_its_notes_and_nothing_else(guarded: GuardWithRights) -> None:
    shop, wiki = AppKeys("shop"), AppKeys("wiki")
    note = shop.prefix + "app:reader"
    with guarded.client("shop-listener") as client:
        client.set(note, "0-0", ex=60)
        assert client.get(note) == "0-0"
        client.delete(note)
    guarded.may_not(
        "shop-listener",
        f"DEL {shop.sid('i', 's')}", f"SET {shop.meta} x", f"SET {wiki.prefix}app:x 1",
        f"XREAD STREAMS {wiki.events} 0", f"SUBSCRIBE {wiki.feed}",
        f"PUBLISH {shop.feed} x", f"GET {wiki.sid('i', 's')}",
        f"XTRIM {shop.events} MAXLEN 0", f"XDEL {shop.events} 1-1",
        f"XGROUP DESTROY {shop.events} default", f"XGROUP SETID {shop.events} default 0",
    )  # fmt: skip


@NEWEST
def test_a_listener_neither_adds_nor_removes_an_event(guarded: GuardWithRights) -> None:
    """Redis 6.2 cannot express this."""
    shop = AppKeys("shop")
    guarded.may_not(
        "shop-listener",
        f"DEL {shop.events}", f"SET {shop.events} x", f"XADD {shop.events} * v 1",
        f"EXPIRE {shop.events} 1",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["group", "broadcast"])
async def test_a_listener_runs_as_the_user_of_the_contract(
    mode: Literal["group", "broadcast"], guarded: GuardWithRights, tmp_path: Path
) -> None:
    """With dead letters, receipts, its report, its position, and the events of a dead process."""
    url, name = guarded.url("shop-listener"), f"heard-{mode}"
    with guarded.client("admin") as admin:
        stream = Stream(admin, "shop")
        for key in (stream.keys.dead_letters, stream.keys.receipts):
            admin.delete(key)
        admin.acl_log_reset()
        if mode == "group":
            child = ListenerProcess(tmp_path, url, "shop", mode=mode, name=name, **QUICK)
            stream.add("hang")
            await until(lambda: "hang" in child.heard, "the child is handling it")
            child.kill()
        listener = AsyncListener(url, app="shop", mode=mode, name=name, **(QUICK | {"tries": 2}))
        async with RecordingListener(listener, fails=["bad"]) as recorder:
            if mode == "broadcast":
                await recorder.began()
            stream.add("bad", "s1")
            await recorder.has("s1")
            if mode == "group":
                await recorder.has("hang")
            await until(stream.dead, "there is a dead letter")
            await until(lambda: admin.hlen(stream.keys.readers), "it has reported")
        assert {one["outcome"] for one in stream.receipts()} == {"failed", "dead", "done"}
        if mode == "broadcast":
            assert admin.get(stream.keys.position(name))
        refused = {one["object"] for one in admin.acl_log()}
        assert refused == ({stream.keys.meta} if guarded.old else set())
