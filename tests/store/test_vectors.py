"""What the store and its script leave in Redis, against the contract's `vectors.json`."""

import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.revocation import Once, revoke
from app.store.store import Store
from app.store.topology import RedisTopology, connect
from backchannel_logout import AppKeys, Event, EventKind, SessionGuard
from tests.support.servers.redis_server import RedisServer

VECTORS: dict[str, Any] = json.loads(
    Path(__file__).parents[2].joinpath("contract/vectors.json").read_text("utf-8")
)
DECISIONS = VECTORS["decisions"]
JSON_FIELDS = {"v", "cutoff", "received_at", "client_ids", "revoke_offline_access"}


def cases(table: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", table, ids=[case["name"] for case in table])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The vectors name their apps, so nothing else uses this server."""
    running = RedisServer(tmp_path_factory.mktemp("vectors")).start()
    yield running
    running.stop()


class VectorStores:
    """An empty Redis, stores for the apps of the vectors, and a client to inspect it."""

    def __init__(self, server: RedisServer, look: redis.Redis) -> None:
        self._link = RedisTopology(connect(server.url))
        self.look = look
        look.flushdb()

    def store(self, app: str) -> Store:
        return Store(
            self._link,
            apps={app: DECISIONS["max_session_age"]},
            event_retention=3600,
            event_max_len=100,
        )

    async def write_meta(self, app: str) -> None:
        await self.store(app).metas.write(await self._link.primary(app), [app])

    async def write(self, app: str, kind: EventKind, iss: str, since: int, **more: Any) -> None:
        """Write one revocation, as a logout token of this moment makes it."""
        arguments: dict[str, Any] = {
            "source": "backchannel-logout",
            "received_at": max(float(since), time.time()),
            "max_session_age": DECISIONS["max_session_age"],
            "leeway": 60,
        }
        revocation = revoke(
            app=app, kind=kind, issuer_names=(iss,), since=since, **(arguments | more)
        )
        (result,) = await self.store(app).write([revocation])
        assert result in (1, 2)

    def keys(self) -> set[str]:
        names: Any = self.look.keys("*")
        return set(names)

    async def close(self) -> None:
        await self._link.aclose()


@pytest.fixture
async def stores(server: RedisServer) -> AsyncIterator[VectorStores]:
    with server.client() as look:
        stores = VectorStores(server, look)
        yield stores
        await stores.close()


@cases([case for case in VECTORS["h"]["cases"] if case["second"]])
async def test_the_hash_in_a_marker(case: dict[str, Any], stores: VectorStores) -> None:
    await stores.write("shop", EventKind.SESSION, case["first"], 1, sid=case["second"])
    assert stores.keys() == {f"bcl:v1:{{shop}}:sid:{case['h']}", AppKeys("shop").events}


KINDS = {"sid": EventKind.SESSION, "sub": EventKind.USER, "all": EventKind.ALL}


@cases([case for case in VECTORS["keys"]["cases"] if case["kind"] in KINDS])
async def test_the_key_of_a_marker(case: dict[str, Any], stores: VectorStores) -> None:
    await stores.write(
        case["app"], KINDS[case["kind"]], case["iss"], 5, sid=case.get("sid"), sub=case.get("sub")
    )
    assert stores.keys() == {case["key"], AppKeys(case["app"]).events}
    assert stores.look.get(case["key"]) == "5"


@cases([case for case in VECTORS["keys"]["cases"] if case["kind"] == "jti"])
async def test_the_key_of_a_jti(case: dict[str, Any], stores: VectorStores) -> None:
    sid, sub = case["sid"], case["sub"]
    kind = EventKind.SESSION if sid else EventKind.USER if sub else EventKind.ALL
    once = Once(case["jti"], sid, sub, time.time() + 60)
    await stores.write(case["app"], kind, case["iss"], 5, sid=sid, sub=sub, once=once)
    assert stores.look.get(case["key"]) == "1"
    assert len(stores.keys()) == 3, "marker, stream and jti"


@cases([case for case in VECTORS["keys"]["cases"] if case["kind"] in ("events", "feed", "meta")])
async def test_the_keys_of_stream_channel_and_meta(
    case: dict[str, Any], stores: VectorStores
) -> None:
    key = case["key"]
    with stores.look.pubsub() as feed:
        feed.subscribe(key)
        assert feed.get_message(timeout=5)
        await stores.write_meta(case["app"])
        await stores.write(case["app"], EventKind.ALL, "https://op.example/", 5)
        message = feed.get_message(timeout=5 if case["kind"] == "feed" else 0)
    assert (message is not None) == (case["kind"] == "feed")
    assert (
        stores.look.type(key) == {"events": "stream", "feed": "none", "meta": "hash"}[case["kind"]]
    )
    if case["kind"] == "meta":
        age = str(DECISIONS["max_session_age"])
        assert stores.look.hgetall(key) == {"v": str(VECTORS["v"]), "max_session_age": age}


@cases(VECTORS["events"]["readable"])
async def test_an_event_in_stream_and_channel(case: dict[str, Any], stores: VectorStores) -> None:
    """The vector's revocation is written as the vector specifies."""
    members = case["members"]
    more = {
        name: members[name] for name in ("sid", "sub", "source", "received_at") if name in members
    }
    if "jti" in members:
        until = time.time() + 60
        more["once"] = Once(members["jti"], members.get("sid"), members.get("sub"), until)
    keys = AppKeys(members["app"])
    with stores.look.pubsub() as feed:
        feed.subscribe(keys.feed)
        assert feed.get_message(timeout=5)
        await stores.write(
            members["app"], EventKind(members["kind"]), members["iss"], members["cutoff"], **more,
            client_ids=tuple(members.get("client_ids", ())),
            revoke_offline_access=members.get("revoke_offline_access", False),
        )  # fmt: skip
        message = feed.get_message(timeout=5)
    entries: Any = stores.look.xrange(keys.events)
    [(entry_id, fields)] = entries
    assert message is not None
    as_json = json.loads(message["data"])
    assert as_json == members | {"id": entry_id}
    as_fields = {
        name: json.loads(value) if name in JSON_FIELDS else value for name, value in fields.items()
    }
    assert as_fields | {"id": entry_id} == as_json
    assert Event.from_fields(fields, entry_id) == Event.from_json(message["data"])


def writable(case: dict[str, Any]) -> bool:
    """Whether the store can write each marker of a decision: a number, for a name that the vector
    gives.
    """
    own = markers(case)
    return all(key in own and re.fullmatch("[0-9]+", value) for key, value in case["redis"].items())


def markers(case: dict[str, Any]) -> dict[str, EventKind]:
    """The markers of the session itself."""
    keys, session = AppKeys(DECISIONS["app"]), case["session"]
    kinds = {keys.all(session["iss"]): EventKind.ALL}
    if session["sid"]:
        kinds[keys.sid(session["iss"], session["sid"])] = EventKind.SESSION
    if session["sub"]:
        kinds[keys.sub(session["iss"], session["sub"])] = EventKind.USER
    return kinds


WRITABLE = [case for case in DECISIONS["cases"] if writable(case)]


@cases(WRITABLE)
async def test_a_decision_from_the_write_to_the_verdict(
    case: dict[str, Any], stores: VectorStores, server: RedisServer
) -> None:
    app, session, kinds = DECISIONS["app"], case["session"], markers(case)
    await stores.write_meta(app)
    for key, cutoff in case["redis"].items():
        await stores.write(
            app, kinds[key], session["iss"], int(cutoff), sid=session["sid"], sub=session["sub"]
        )
    written = stores.keys() - {AppKeys(app).meta, AppKeys(app).events}
    assert {key: stores.look.get(key) for key in written} == case["redis"]
    with SessionGuard(server.url, app=app, clock=lambda: case["now"]) as guard:
        assert guard.is_revoked(session) == (case["verdict"] != "alive")


def test_most_decisions_can_be_written() -> None:
    assert {case["verdict"] for case in WRITABLE} == {"alive", "revoked", "expired"}
    assert len(WRITABLE) > len(DECISIONS["cases"]) / 2
