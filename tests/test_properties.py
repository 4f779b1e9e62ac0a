"""Whatever bytes arrive as header, payload or body: 200, 400 or 503, never 500, never a hang."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from tests.support.provider import EVENT, Provider, encode_parts
from tests.support.receiver import Receiver, config, crashes
from tests.support.redis_server import RedisServer

ANSWERS = {200, 400, 503}

# The receiver is a process of its own: its state is the point, and it has no deadline here.
relaxed = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)

CLAIMS = ("iss", "aud", "iat", "exp", "nbf", "jti", "events", "nonce", "sub", "sid", "typ")


class Bench:
    def __init__(self, receiver: Receiver, provider: Provider) -> None:
        self.receiver = receiver
        self.provider = provider
        self.client = httpx.Client(base_url=receiver.url, timeout=10)

    def post(self, body: bytes, content_type: bytes = b"application/x-www-form-urlencoded") -> int:
        answer = self.client.post(
            "/backchannel-logout", content=body, headers={b"Content-Type": content_type}
        )
        assert answer.headers["cache-control"] == "no-store"
        return answer.status_code

    def sign(self, header: Any, payload: Any) -> bytes:
        key = self.provider.keys["k1"]
        signer = RSAAlgorithm(RSAAlgorithm.SHA256)
        return encode_parts(header, payload, lambda data: signer.sign(data, key)).encode()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer) -> Iterator[Bench]:
    with Provider() as provider:
        text = config(shared_redis.url, f'issuer = "{provider.issuer}"')
        receiver = Receiver(tmp_path_factory.mktemp("receiver"), text).start()
        one = Bench(receiver, provider)
        yield one
        one.client.close()
        receiver.stop()
        assert '"error":"internal"' not in receiver.log
        assert not crashes(receiver.log)


@relaxed
@given(body=st.binary(max_size=2000))
def test_any_body(bench: Bench, body: bytes) -> None:
    assert bench.post(body) in ANSWERS
    assert bench.post(b"logout_token=" + body) in ANSWERS


@relaxed
@given(parts=st.lists(st.binary(max_size=200), max_size=6))
def test_any_segments(bench: Bench, parts: list[bytes]) -> None:
    assert bench.post(b"logout_token=" + b".".join(parts)) in ANSWERS


@pytest.mark.slow
@relaxed
@given(header=st.binary(max_size=300), payload=st.binary(max_size=300))
def test_any_bytes_as_header_and_payload(bench: Bench, header: bytes, payload: bytes) -> None:
    good = json.dumps(bench.provider.claims()).encode()
    assert bench.post(b"logout_token=" + bench.sign(header or b"{", payload or b"{")) == 400
    assert bench.post(b"logout_token=" + bench.sign(header or b"{", good)) in ANSWERS
    assert (
        bench.post(b"logout_token=" + bench.sign({"alg": "RS256", "kid": "k1"}, payload or b"{"))
        == 400
    )


@relaxed
@given(
    changes=st.dictionaries(st.sampled_from(CLAIMS) | st.text(max_size=10), anything, max_size=3)
)
def test_any_value_of_any_claim_well_signed(bench: Bench, changes: dict[str, Any]) -> None:
    """The signature is right, so that the rules behind it see the value."""
    payload = json.dumps(bench.provider.claims(), ensure_ascii=True)[:-1]
    for name, value in changes.items():
        payload += f", {json.dumps(name)}: {json.dumps(value)}"
    members = dict(bench.provider.claims()) | changes
    for body in (json.dumps(members).encode(), (payload + "}").encode()):
        assert (
            bench.post(b"logout_token=" + bench.sign({"alg": "RS256", "kid": "k1"}, body))
            in ANSWERS
        )


@pytest.mark.slow
@relaxed
@given(event=anything)
def test_any_value_of_the_event(bench: Bench, event: Any) -> None:
    token = bench.sign({"alg": "RS256", "kid": "k1"}, bench.provider.claims(events={EVENT: event}))
    status = bench.post(b"logout_token=" + token)
    if not isinstance(event, dict):
        assert status == 400
    assert status in ANSWERS


@pytest.mark.slow
@relaxed
@given(
    header=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk"]), anything)
)
def test_any_value_in_the_header(bench: Bench, header: dict[str, Any]) -> None:
    good = {"alg": "RS256", "kid": "k1"} | header
    assert bench.post(b"logout_token=" + bench.sign(good, bench.provider.claims())) in ANSWERS


@relaxed
@given(content_type=st.binary(max_size=60).filter(lambda raw: not set(raw) & set(b"\r\n\x00")))
def test_any_content_type(bench: Bench, content_type: bytes) -> None:
    try:
        status = bench.post(b"logout_token=x", content_type)
    except httpx.LocalProtocolError:
        return
    assert status == 400
