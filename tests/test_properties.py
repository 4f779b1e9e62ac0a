"""Any bytes as header, payload or body get 200, 400 or 503, never 500 or a hang."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from tests.support.providers.provider import EVENT, Provider, encode_parts
from tests.support.receiver import Receiver, config, crashes
from tests.support.servers.redis_server import RedisServer

ANSWERS = {200, 400, 503}

# The receiver has its own process, because its state matters, and there is no deadline.
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


class Target:
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
def target(tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer) -> Iterator[Target]:
    with Provider() as provider:
        text = config(shared_redis.url, f'issuer = "{provider.issuer}"')
        receiver = Receiver(tmp_path_factory.mktemp("receiver"), text).start()
        one = Target(receiver, provider)
        yield one
        one.client.close()
        receiver.stop()
        assert '"error":"internal"' not in receiver.log
        assert not crashes(receiver.log)


@relaxed
@given(body=st.binary(max_size=2000))
def test_any_body(target: Target, body: bytes) -> None:
    assert target.post(body) in ANSWERS
    assert target.post(b"logout_token=" + body) in ANSWERS


@relaxed
@given(parts=st.lists(st.binary(max_size=200), max_size=6))
def test_any_segments(target: Target, parts: list[bytes]) -> None:
    assert target.post(b"logout_token=" + b".".join(parts)) in ANSWERS


@pytest.mark.slow
@relaxed
@given(header=st.binary(max_size=300), payload=st.binary(max_size=300))
def test_any_bytes_as_header_and_payload(target: Target, header: bytes, payload: bytes) -> None:
    good = json.dumps(target.provider.claims()).encode()
    assert target.post(b"logout_token=" + target.sign(header or b"{", payload or b"{")) == 400
    assert target.post(b"logout_token=" + target.sign(header or b"{", good)) in ANSWERS
    assert (
        target.post(b"logout_token=" + target.sign({"alg": "RS256", "kid": "k1"}, payload or b"{"))
        == 400
    )


@relaxed
@given(
    changes=st.dictionaries(st.sampled_from(CLAIMS) | st.text(max_size=10), anything, max_size=3)
)
def test_any_value_of_any_claim_well_signed(target: Target, changes: dict[str, Any]) -> None:
    """With a valid signature, so that the rules after it see the value."""
    payload = json.dumps(target.provider.claims(), ensure_ascii=True)[:-1]
    for name, value in changes.items():
        payload += f", {json.dumps(name)}: {json.dumps(value)}"
    members = dict(target.provider.claims()) | changes
    for body in (json.dumps(members).encode(), (payload + "}").encode()):
        assert (
            target.post(b"logout_token=" + target.sign({"alg": "RS256", "kid": "k1"}, body))
            in ANSWERS
        )


@pytest.mark.slow
@relaxed
@given(event=anything)
def test_any_value_of_the_event(target: Target, event: Any) -> None:
    token = target.sign(
        {"alg": "RS256", "kid": "k1"}, target.provider.claims(events={EVENT: event})
    )
    status = target.post(b"logout_token=" + token)
    if not isinstance(event, dict):
        assert status == 400
    assert status in ANSWERS


@pytest.mark.slow
@relaxed
@given(
    header=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk"]), anything)
)
def test_any_value_in_the_header(target: Target, header: dict[str, Any]) -> None:
    good = {"alg": "RS256", "kid": "k1"} | header
    assert target.post(b"logout_token=" + target.sign(good, target.provider.claims())) in ANSWERS


@relaxed
@given(content_type=st.binary(max_size=60).filter(lambda raw: not set(raw) & set(b"\r\n\x00")))
def test_any_content_type(target: Target, content_type: bytes) -> None:
    try:
        status = target.post(b"logout_token=x", content_type)
    except httpx.LocalProtocolError:
        return
    assert status == 400
