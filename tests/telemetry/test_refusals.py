"""The stream of refusals: its entries, its shares, and that no response waits for it."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from app.config.load import load
from app.config.model import Settings
from app.errors import Reason
from app.store.operator_streams import REFUSED
from app.store.topology import connect
from app.telemetry.hashes import HASH_KEY, KeyedHash
from app.telemetry.refusals import (
    MAX_ENTRY_BYTES,
    MAX_QUEUED,
    Refusal,
    Refusals,
    entry_of,
)
from app.tokens.logout_token import RULES
from app.tokens.signed_jwt import UnverifiedJwt
from backchannel_logout.redis.connection import aclose
from tests.support.providers.provider import Provider, private_key
from tests.support.receiver import Receiver, config, log_events, wait_for
from tests.support.servers.redis_server import RedisServer
from tests.support.servers.redis_topologies import Cluster

HASH = KeyedHash(b"k" * 32)
ISSUER = "https://op.example"


def refusal(reason: Reason = Reason.SHAPE, issuer: str | None = None, **claims: Any) -> Refusal:
    jwt = UnverifiedJwt({"alg": "RS256"}, claims, b"", b"") if claims else None
    return Refusal(1795283041.2071, reason, "id-1", issuer, jwt)


# -- an entry --------------------------------------------------------------------------------


def test_an_entry_has_the_reason_and_the_parts_of_the_token() -> None:
    jwt = UnverifiedJwt(
        {"alg": "RS256", "typ": "logout+jwt", "kid": "k1", "x5c": ["no"]},
        {"iss": ISSUER, "aud": ["shop-web-2"], "iat": 1795283041, "exp": 1795283161, "jti": "j",
         "sid": "s", "sub": "alice", "email": "alice@example.org"},
        b"input", b"signature",
    )  # fmt: skip
    entry = entry_of(Refusal(1795283041.2071, Reason.AUD_UNKNOWN, "id-1", ISSUER, jwt), HASH)
    assert entry == {
        "at": "1795283041.207", "reason": "aud_unknown",
        "rule": "aud holds no configured client id of this issuer", "verified": "1",
        "request_id": "id-1", "iss": ISSUER, "aud": '["shop-web-2"]', "alg": "RS256",
        "typ": "logout+jwt", "kid": "k1", "iat": "1795283041", "exp": "1795283161",
        "jti_hash": HASH("j"), "sid_hash": HASH("s"), "sub_hash": HASH("alice"),
    }  # fmt: skip


def test_unknown_fields_are_absent() -> None:
    assert entry_of(refusal(), HASH).keys() == {"at", "reason", "rule", "request_id"}
    before_the_key = entry_of(refusal(Reason.ISS_UNKNOWN, iss="x", sid="s", sub="alice"), None)
    assert before_the_key.keys() == {"at", "reason", "rule", "request_id", "iss", "alg"}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=900),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=40,
)
HEADER = st.fixed_dictionaries({}, optional=dict.fromkeys(("alg", "typ", "kid"), ANYTHING))
CLAIMS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("iss", "aud", "iat", "exp", "jti", "sid", "sub"), ANYTHING)
)


@pytest.mark.slow
@hypothesis_settings(deadline=None)  # the machine may be busy
@given(HEADER, CLAIMS, st.sampled_from(Reason))
def test_every_entry_is_small_and_printable(
    header: dict[str, Any], claims: dict[str, Any], reason: Reason
) -> None:
    jwt = UnverifiedJwt(header, claims, b"", b"")
    entry = entry_of(Refusal(time.time(), reason, "i" * 64, ISSUER, jwt), HASH)
    assert sum(len(f"{name}{value}".encode()) for name, value in entry.items()) <= MAX_ENTRY_BYTES
    assert all(value.isprintable() for value in entry.values())
    if "aud" in entry:
        json.loads(entry["aud"])


def test_refusals_by_a_claim_are_of_signed_tokens() -> None:
    """The rules for claims follow the signature."""
    proven = [reason for reason in Reason if refusal(reason).verified]
    assert proven[0] is Reason.AUD
    assert Reason.SIGNATURE not in proven
    assert len(proven) > len(RULES)


# -- its share -------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "settings.toml"
    path.write_text(config("redis://127.0.0.1:1", f'issuer = "{ISSUER}"'))
    return load(path, {})


@pytest.fixture
def left_out() -> list[int]:
    """The counts of refusals without an entry, as reported."""
    return []


@pytest.fixture
async def refusals(settings: Settings, left_out: list[int]) -> Any:
    client = connect("redis://127.0.0.1:1")
    yield Refusals(settings, client, on_left_out=left_out.append)
    await aclose(client)


def kinds(refusals: Refusals) -> Counter[str]:
    return Counter(entry["reason"] for entry in refusals._queue)


async def test_a_flood_leaves_room_for_more_important_refusals(
    refusals: Refusals, left_out: list[int]
) -> None:
    for _ in range(5000):
        refusals.add(refusal(Reason.SHAPE), None)
        refusals.add(refusal(Reason.SIGNATURE, ISSUER, iss=ISSUER), None)
    flooded = kinds(refusals)
    assert flooded["shape"] <= 10_000 / 12 / 8 / 2 + 1
    assert flooded["signature"] <= 10_000 / 6 / 8 / 2 + 1
    refusals.add(refusal(Reason.AUD_UNKNOWN, ISSUER, iss=ISSUER), None)
    refusals.add(refusal(Reason.ALG, ISSUER, iss=ISSUER), None)
    refusals.add(refusal(Reason.ISS_UNKNOWN, None, iss="https://other.example"), None)
    assert kinds(refusals) == flooded + Counter({"aud_unknown": 1, "alg": 1, "iss_unknown": 1})
    assert sum(left_out) == 10_000 - flooded.total()


async def test_one_issuers_flood_leaves_room_for_another(refusals: Refusals) -> None:
    for _ in range(5000):
        refusals.add(refusal(Reason.AUD_UNKNOWN, ISSUER, iss=ISSUER), None)
    before = len(refusals._queue)
    refusals.add(refusal(Reason.AUD_UNKNOWN, "https://neighbour.example", iss="x"), None)
    assert len(refusals._queue) == before + 1


# -- the task that writes ----------------------------------------------------------------------


async def test_while_redis_is_away_the_queue_is_bounded_and_the_rest_counted(
    settings: Settings, left_out: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    client = connect("redis://127.0.0.1:1")
    refusals = Refusals(
        settings.model_copy(update={"refused_max_len": 10_000_000}),
        client,
        on_left_out=left_out.append,
    )
    for _ in range(MAX_QUEUED + 7):
        refusals.add(refusal(), None)
    assert (len(refusals._queue), sum(left_out)) == (MAX_QUEUED, 7)
    first = refusals._queue[0]
    assert await refusals.write() is False
    assert len(refusals._queue) == MAX_QUEUED
    assert refusals._queue[0] is first
    assert log_events(caplog, "refusals", outcome="failed")
    await aclose(client)


async def test_a_stop_during_a_write_loses_nothing(
    settings: Settings, redis_server: RedisServer
) -> None:
    client = connect(redis_server.url)
    kept: list[int] = []
    refusals = Refusals(settings, client, on_kept=kept.append)
    writing = asyncio.create_task(refusals.keep_writing())
    for reason in list(Reason)[:20]:
        refusals.add(refusal(reason), None)
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    with redis_server.client() as admin:
        entries: Any = admin.xrange(REFUSED)
    assert len(entries) == sum(kept) == 20
    await aclose(client)


@pytest.mark.slow
async def test_the_stream_is_capped_by_length_and_by_age(
    settings: Settings, redis_server: RedisServer
) -> None:
    client, now = connect(redis_server.url), time.time()
    ahead = 0.0
    refusals = Refusals(
        settings.model_copy(update={"refused_max_len": 200}),
        client,
        clock=lambda: now + ahead,
        monotonic=lambda: now + ahead,
    )
    with redis_server.client() as admin:
        for _ in range(40):
            refusals._queue.extend([entry_of(refusal(), None)] * 50)
            assert await refusals.write()
        assert 200 <= admin.xlen(REFUSED) <= 300  # Redis removes whole nodes, 100 entries each
        ahead = settings.event_retention + 61
        refusals._queue.append(entry_of(refusal(), None))
        assert await refusals.write()
        assert admin.xlen(REFUSED) <= 100
    await aclose(client)


@pytest.mark.slow
async def test_in_a_cluster_the_stream_is_on_the_server_of_its_slot(
    settings: Settings, tmp_path: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        client = connect(cluster.url)
        refusals = Refusals(settings, client)
        refusals.add(refusal(), None)
        assert await refusals.write()
        await aclose(client)
        held = 0
        for node in cluster.primaries:
            with node.client() as admin:
                if REFUSED in admin.scan_iter():
                    held += admin.xlen(REFUSED)
        assert held == 1


# -- with a real receiver ----------------------------------------------------------------------


def entries_of(server: RedisServer) -> list[dict[str, str]]:
    with server.client() as client:
        entries: Any = client.xrange(REFUSED)
    return [fields for _, fields in entries]


def test_a_refusal_is_found_by_its_request_id_in_answer_log_and_stream(
    receiver: Receiver, redis_server: RedisServer, provider: Provider
) -> None:
    """Forged, for another client, of an unknown issuer, and not a token. No secret is shown."""
    sent = {
        "signature": provider.token(sid="forged-sid", key=private_key("RS256", 9)),
        "aud_unknown": provider.token(aud="shop-web-2", sid="other-sid", sub="other-sub"),
        "iss_unknown": provider.token(iss="https://nobody.example", sid="nobody-sid"),
        "shape": "nonsense",
    }
    answers = {reason: receiver.post(token) for reason, token in sent.items()}
    assert {answer.status_code for answer in answers.values()} == {400}
    wait_for(lambda: len(entries_of(redis_server)) == 4, "they are written", receiver)
    kept, metrics = 'bcl_refusals_total{outcome="kept"} 4.0', receiver.admin_url + "/metrics"
    wait_for(lambda: kept in receiver.http.get(metrics).text, "they are counted", receiver)
    with redis_server.client() as client:
        key: Any = client.get(HASH_KEY)
    hashed = KeyedHash(key.encode())
    for entry in entries_of(redis_server):
        reason = entry["reason"]
        assert entry["request_id"] == answers[reason].headers["x-request-id"]
        (line,) = receiver.wait_for_log_event(
            "logout", outcome="refused", request_id=entry["request_id"]
        )
        assert line["reason"] == reason
        assert entry.get("sid_hash") == line.get("sid_hash")
        assert entry.get("verified") == ("1" if reason == "aud_unknown" else None)
        if reason == "aud_unknown":
            assert entry["aud"] == '"shop-web-2"'
            assert entry["sub_hash"] == hashed("other-sub")
    kept = receiver.log + json.dumps(entries_of(redis_server))
    for secret in ("-sid", "-sub", *(part for token in sent.values() for part in token.split("."))):
        assert secret not in kept or secret == "nonsense"


@pytest.fixture
def guarded(tmp_path: Path, provider: Provider, redis_server: RedisServer) -> Iterator[Receiver]:
    """A receiver whose user has no right to the stream of refusals, as before there was one."""
    with redis_server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "old", "on", ">sesame", "resetchannels", "&*", "~bcl:v1:{shop}:*",
            "+@all", "-@dangerous", "+info",
        )  # fmt: skip
    url = redis_server.url.replace("//", "//old:sesame@")
    process = Receiver(tmp_path / "receiver", config(url, f'issuer = "{provider.issuer}"'))
    yield process.start()
    process.stop()


@pytest.mark.slow
def test_without_the_right_to_the_stream_everything_else_works(
    guarded: Receiver, provider: Provider
) -> None:
    """It is logged, but not repeatedly."""
    for _ in range(20):
        assert guarded.post("nonsense").status_code == 400
    assert guarded.post(provider.token(sid="s")).status_code == 200
    wait_for(lambda: guarded.log_events("refusals", error="NOPERM"), "it is logged", guarded)
    assert guarded.wait_for_log_event("hash_key", error="NOPERM")
    (line,) = guarded.wait_for_log_event("logout", outcome="accepted")
    assert "sid_hash" not in line, "it has no key that the others lack"
    assert "sesame" not in guarded.log


@pytest.mark.slow
def test_while_redis_is_away_refusals_are_answered_and_written_later(
    receiver: Receiver, redis_server: RedisServer
) -> None:
    assert receiver.post("nonsense").status_code == 400
    redis_server.stop()
    for _ in range(30):
        assert receiver.post("nonsense").status_code == 400
    redis_server.start()
    wait_for(lambda: len(entries_of(redis_server)) > 20, "they are written", receiver)


@pytest.mark.slow
def test_a_parked_token_that_is_refused_later_is_in_the_stream(
    receiver: Receiver, redis_server: RedisServer, provider: Provider
) -> None:
    provider.mode = "500"
    provider.rotate("k2")
    answer = receiver.post(provider.token(sid="s", key=private_key("RS256", 9)))
    assert answer.status_code == 503
    provider.mode = "ok"
    wait_for(lambda: len(entries_of(redis_server)) == 2, "it is settled", receiver)
    waited, refused = entries_of(redis_server)
    request_id = answer.headers["x-request-id"]
    assert (refused["reason"], refused["request_id"]) == ("signature", request_id)
    assert (waited["reason"], waited["request_id"]) == ("keys_unavailable", request_id)
    assert waited["sid_hash"] == refused["sid_hash"]
    assert "verified" not in waited
