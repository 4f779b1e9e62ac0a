"""Tokens captured from real providers (captures.json), over HTTP: each with only its provider's
preset, and each with one fault."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from app.config.presets import presets
from app.errors import Reason
from backchannel_logout import AppKeys, Session, SessionGuard
from tests.support.patience import PATIENCE
from tests.support.providers.provider import EVENT, Provider, private_key, sign
from tests.support.receiver import Receiver, config, wait_for
from tests.support.revocations import new_app
from tests.support.servers.redis_server import RedisServer

CAPTURES: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("captures.json").read_text("utf-8")
)["tokens"]


def claims_of(capture: dict[str, Any], now: float) -> dict[str, Any]:
    """Its claims as if sent now, with new ``sub`` and ``sid`` of the same form."""
    mark = uuid.uuid4().hex[:6]
    claims = {"iss": capture["issuer"]} | capture["claims"]
    for name, value in claims.items():
        if name in ("iat", "exp", "nbf"):
            claims[name] = int(now) + int(value)
        elif name in ("sub", "sid", "jti"):
            claims[name] = value + mark
    return claims


def key_of(capture: dict[str, Any]) -> Any:
    """One for each algorithm, since generating them takes longer than the tests."""
    return private_key(capture["header"]["alg"])


def signed(capture: dict[str, Any], claims: dict[str, Any]) -> str:
    return sign(claims, key_of(capture), capture["header"]["alg"], capture["header"])


@dataclass
class CaptureReceiver:
    """One receiver for all providers, with its own app in Redis and a guard."""

    receiver: Receiver
    keys: AppKeys
    guard: SessionGuard
    redis: redis.Redis

    def markers(self) -> set[str]:
        return {
            key
            for kind in ("sid", "sub", "all")
            for key in self.redis.scan_iter(f"{self.keys.prefix}{kind}:*", count=1000)
        }


@pytest.fixture(scope="module")
def receiving(
    tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer
) -> Iterator[CaptureReceiver]:
    """The issuers have their captured names; only their keys are local."""
    app, issuers, providers = new_app(), [], []
    for name in sorted({capture["issuer"] for capture in CAPTURES}):
        of_one = [capture for capture in CAPTURES if capture["issuer"] == name]
        provider = Provider()
        provider.__enter__()
        provider.keys = {of_one[0]["header"].get("kid", "unnamed"): key_of(of_one[0])}
        providers.append(provider)
        lines = [f'issuer = "{name}"', f'jwks_uri = "{provider.origin}/jwks"']
        both = "session"
        if preset := of_one[0]["preset"]:
            lines.append(f'preset = "{preset}"')
            both = presets()[preset].both_claims
        clients = sorted({ours(capture) for capture in of_one})
        tables = ", ".join(
            f'{{client_id = "{one}", app = "{app}", both_claims = "{both}"}}' for one in clients
        )
        issuers.append("\n".join(["[[issuers]]", *lines, f"clients = [{tables}]"]))
    settings = config(shared_redis.url) + "\n".join(issuers)
    receiver = Receiver(tmp_path_factory.mktemp("receiver"), settings).start()
    guard = SessionGuard(shared_redis.url, app=app, timeout=PATIENCE)
    look = redis.Redis.from_url(shared_redis.url, decode_responses=True)
    yield CaptureReceiver(receiver, AppKeys(app), guard, look)
    look.close()
    guard.close()
    receiver.stop()
    for provider in providers:
        provider.__exit__()


def ours(capture: dict[str, Any]) -> str:
    """The audience that is a configured client: the first."""
    aud = capture["claims"]["aud"]
    return str(aud if isinstance(aud, str) else aud[0])


def by_name(capture: dict[str, Any]) -> str:
    return str(capture["name"]).replace(" ", "-")


@pytest.mark.parametrize("capture", CAPTURES, ids=by_name)
def test_it_is_accepted_and_ends_only_what_it_names(
    capture: dict[str, Any], receiving: CaptureReceiver
) -> None:
    """One marker of the right kind; the neighbours' sessions survive."""
    claims = claims_of(capture, time.time())
    iss, sid, sub = claims["iss"], claims.get("sid"), claims.get("sub", "somebody")
    login = claims["iat"] - 60
    named = Session(iss, login, sid, sub)
    elsewhere = Session(iss, login, "another-device", sub)
    alive = [
        Session(iss, login, "another-sid", "another-sub"),
        Session(iss, claims["iat"] + 1, sid, sub),
        Session(next(one["issuer"] for one in CAPTURES if one["issuer"] != iss), login, sid, sub),
    ]
    before = receiving.markers()
    answer = receiving.receiver.post(signed(capture, claims), **capture.get("fields", {}))
    assert (answer.status_code, answer.content) == (200, b""), answer.text
    ends_the_user = capture["revokes"] == "user"
    marker = receiving.keys.sub(iss, sub) if ends_the_user else receiving.keys.sid(iss, sid)
    # On a machine that is busy, the journal may have taken it for a moment.
    wait_for(lambda: receiving.redis.exists(marker), "the logout is in Redis", receiving.receiver)
    assert receiving.markers() - before == {marker}
    assert receiving.redis.get(marker) == str(claims["iat"])
    dead = receiving.guard.which_revoked([named, elsewhere, *alive])
    assert dead == ([named, elsewhere] if ends_the_user else [named])


Change = Callable[[dict[str, Any]], object]
FAULTS: dict[Reason, Change] = {
    Reason.ISS_UNKNOWN: lambda c: c.update(iss=c["iss"] + "x"),
    Reason.AUD_UNKNOWN: lambda c: c.update(aud=["another-client"]),
    Reason.IAT: lambda c: c.pop("iat"),
    Reason.IAT_FUTURE: lambda c: c.update(iat=c["iat"] + 600),
    Reason.IAT_OLD: lambda c: c.update(iat=c["iat"] - 600),
    Reason.EXP_PAST: lambda c: c.update(exp=c["iat"] - 100),
    Reason.NBF_FUTURE: lambda c: c.update(nbf=c["iat"] + 600),
    Reason.JTI: lambda c: c.pop("jti"),
    Reason.EVENTS: lambda c: c.pop("events"),
    Reason.EVENTS_MEMBER: lambda c: c["events"].update({EVENT: True}),
    Reason.NONCE: lambda c: c.update(nonce="n"),
    Reason.SUBJECT_MISSING: lambda c: (c.pop("sub", None), c.pop("sid", None)),
}


ES256 = {"alg": "ES256"}


@pytest.mark.slow
@pytest.mark.parametrize("capture", CAPTURES, ids=by_name)
def test_with_one_fault_it_is_refused_for_that_fault(
    capture: dict[str, Any], receiving: CaptureReceiver
) -> None:
    """Nothing of it reaches Redis."""
    before, told = receiving.redis.xlen(receiving.keys.events), {}
    for reason, change in FAULTS.items():
        claims = json.loads(json.dumps(claims_of(capture, time.time())))
        change(claims)
        told[str(reason)] = refusal(receiving, signed(capture, claims))
    claims, header = claims_of(capture, time.time()), capture["header"]
    told["alg"] = refusal(receiving, sign(claims, private_key("ES256"), "ES256", header | ES256))
    told["typ"] = refusal(
        receiving, sign(claims, key_of(capture), header["alg"], header | {"typ": "at+jwt"})
    )
    unsigned = signed(capture, claims).rpartition(".")[0] + "."
    told["shape"] = refusal(receiving, unsigned)
    foreign = refusal(receiving, sign(claims, private_key(header["alg"], 9), header["alg"], header))
    assert told == {name: name for name in told}
    assert foreign == "signature" if "kid" in header else foreign in ("key_unknown", "unavailable")
    assert receiving.redis.xlen(receiving.keys.events) == before


def refusal(receiving: CaptureReceiver, token: str) -> str:
    answer = receiving.receiver.post(token)
    if answer.status_code == 503:
        return "unavailable"
    assert answer.status_code == 400, answer.text
    return str(answer.json()["error_description"].partition(":")[0])


def test_the_preset_of_every_captured_provider_says_so() -> None:
    """The table's `evidence` claims no more than the captures show."""
    captured = {one["preset"] for one in CAPTURES if one["evidence"] == "run"}
    assert captured == {name for name, one in presets().items() if one.evidence == "run"}


def test_every_capture_is_of_a_known_preset_or_needs_none() -> None:
    assert {one["preset"] for one in CAPTURES} - {None} <= presets().keys()
