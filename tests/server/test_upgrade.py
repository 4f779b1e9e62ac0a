"""Requests that offer another protocol are read like any other, in every form of the offer."""

import secrets
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from app.server.fast_path import PATIENCE
from backchannel_logout import AppKeys
from tests.support.providers.provider import Provider
from tests.support.raw_http import RawConnection, logout_request
from tests.support.receiver import Receiver, config, crashes
from tests.support.servers.redis_server import RedisServer

KEYS = AppKeys("shop")

OFFERS = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIA"),
    "tls": ("Upgrade: TLS/1.2", "Connection: Upgrade"),
    "websocket": (
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "two": ("Connection: Upgrade", "Connection: close", "Upgrade: a, b/1", "Upgrade: c"),
    "anything": ("CONNECTION: uPGRADE", "UPGRADE: x"),
}

LATE = PATIENCE * 4


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="module")
def receiver(
    provider: Provider, shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Receiver]:
    directory: Path = tmp_path_factory.mktemp("receiver")
    receiver = Receiver(directory, config(shared_redis.url, f'issuer = "{provider.issuer}"'))
    yield receiver.start()
    assert not crashes(receiver.log)
    receiver.stop()


@pytest.fixture
def sid() -> str:
    return secrets.token_urlsafe()


@pytest.fixture(params=OFFERS.values(), ids=OFFERS)
def offer(request: pytest.FixtureRequest) -> tuple[str, ...]:
    offered: tuple[str, ...] = request.param
    return offered


def ended(redis: RedisServer, provider: Provider, sid: str) -> bool:
    with redis.client() as look:
        return bool(look.exists(KEYS.sid(provider.issuer, sid)))


def chunked(data: bytes) -> bytes:
    """The same request with its body in chunks of 100 bytes."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    pieces = [body[at : at + 100] for at in range(0, len(body), 100)] + [b""]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", chunks])


@pytest.mark.parametrize("pause", [0.0, LATE], ids=["at once", "late"])
@pytest.mark.parametrize("cuts", [(), (0,), (0, 300), (-1,), (-40, 0)], ids=str)
@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunked"])
def test_its_body_is_read_however_it_arrives(
    cuts: tuple[int, ...],
    in_chunks: bool,
    pause: float,
    receiver: Receiver,
    provider: Provider,
    shared_redis: RedisServer,
    sid: str,
) -> None:
    """A cut counts from the end of the head, which contains the offer."""
    data = logout_request(provider.token(sid=sid), *OFFERS["h2c"])
    data = chunked(data) if in_chunks else data
    body = data.index(b"\r\n\r\n") + 4
    edges = [0, *sorted(body + cut for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    with RawConnection(receiver.url) as connection:
        answer = connection.send(*pieces, pause=pause).answer()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer
        assert connection.has_ended()
    assert ended(shared_redis, provider, sid)


def test_every_offer_is_ignored(
    offer: tuple[str, ...],
    receiver: Receiver,
    provider: Provider,
    shared_redis: RedisServer,
    sid: str,
) -> None:
    data = logout_request(provider.token(sid=sid), *offer)
    head = data.index(b"\r\n\r\n") + 4
    with RawConnection(receiver.url) as connection:
        assert connection.send(data[:head], data[head:], pause=0.01).answers_until_end() == [b"200"]
    assert ended(shared_redis, provider, sid)


@pytest.mark.parametrize("pause", [0.0, LATE], ids=["at once", "late"])
@pytest.mark.parametrize("in_chunks", [False, True], ids=["length", "chunked"])
def test_a_request_hidden_in_its_body_is_not_served(
    offer: tuple[str, ...],
    in_chunks: bool,
    pause: float,
    receiver: Receiver,
    provider: Provider,
    shared_redis: RedisServer,
    sid: str,
) -> None:
    hidden = logout_request(provider.token(sid=sid))
    data = logout_request("x.y.z\r\n\r\n" + hidden.decode(), *offer)
    data = chunked(data) if in_chunks else data
    at = data.index(b"x.y.z") + 9
    with RawConnection(receiver.url) as connection:
        assert connection.send(data[:at], data[at:], pause=pause).answers_until_end() == [b"400"]
    assert not ended(shared_redis, provider, sid)


@pytest.mark.parametrize("pause", [0.0, LATE], ids=["at once", "late"])
def test_requests_before_it_are_answered_and_those_after_it_are_not(
    offer: tuple[str, ...],
    pause: float,
    receiver: Receiver,
    provider: Provider,
    shared_redis: RedisServer,
    sid: str,
) -> None:
    before, after = (logout_request(provider.token(sid=sid + n)) for n in ("a", "c"))
    offering = logout_request(provider.token(sid=sid + "b"), *offer)
    with RawConnection(receiver.url) as connection:
        connection.send(before + before + offering[:-9], offering[-9:] + after, pause=pause)
        assert connection.answers_until_end() == [b"200"] * 3
    assert ended(shared_redis, provider, sid + "b")
    assert not ended(shared_redis, provider, sid + "c")


def test_many_offers_in_a_row_are_one_request(receiver: Receiver, provider: Provider) -> None:
    data = logout_request(provider.token(), *OFFERS["anything"])
    with RawConnection(receiver.url) as connection:
        assert connection.send(data * 60).answers_until_end() == [b"200"]


@pytest.mark.parametrize(
    "data",
    [
        b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\nContent-Length: %d\r\n\r\n",
        b"CONNECT /backchannel-logout HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["connect", "connect to a path", "http2"],
)
def test_a_tunnel_and_another_http_version_are_refused(
    data: bytes, receiver: Receiver, provider: Provider, shared_redis: RedisServer, sid: str
) -> None:
    hidden = logout_request(provider.token(sid=sid))
    data = data.replace(b"%d", b"%d" % len(hidden))
    for url in (receiver.url, receiver.admin_url):
        with RawConnection(url) as connection:
            assert connection.send(data, hidden, pause=0.01).answers_until_end() == [b"400"]
    assert not ended(shared_redis, provider, sid)


def test_an_offer_to_http_1_0_is_ignored(receiver: Receiver, provider: Provider) -> None:
    data = logout_request(provider.token(), *OFFERS["h2c"]).replace(b"HTTP/1.1", b"HTTP/1.0")
    at = data.index(b"\r\n\r\n") + 4
    with RawConnection(receiver.url) as connection:
        assert connection.send(data[:at], data[at:], pause=0.01).answers_until_end() == [b"200"]


def test_an_offer_in_a_trailer_is_ignored(receiver: Receiver, provider: Provider) -> None:
    data = chunked(logout_request(provider.token()))
    offering = data[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with RawConnection(receiver.url) as connection:
        assert connection.send(offering).answer()[9:12] == b"200"
        assert connection.send(data).answer()[9:12] == b"200", "and the connection goes on"


def test_expect_100_continue_is_answered_despite_an_offer(
    receiver: Receiver, provider: Provider
) -> None:
    data = logout_request(provider.token(), *OFFERS["h2c"], "Expect: 100-continue")
    at = data.index(b"\r\n\r\n") + 4
    with RawConnection(receiver.url) as connection:
        assert connection.send(data[:at]).answer().startswith(b"HTTP/1.1 100 ")
        assert connection.send(data[at:]).answers_until_end() == [b"200"]


def test_the_operators_listener_reads_offers_the_same_way(receiver: Receiver) -> None:
    """A hidden request would be answered on a connection that a proxy reuses for others."""
    hidden = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    offering = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: x\r\n"
    offering += b"Content-Length: %d\r\n\r\n" % len(hidden)
    with RawConnection(receiver.admin_url) as connection:
        assert connection.send(offering, hidden, pause=LATE).answers_until_end() == [b"404"]
