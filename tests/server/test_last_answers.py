"""A response that ends its connection reaches the client, even one that is still sending."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.backchannel.form import MAX_BODY
from app.server.connection_limits import MAX_BODY as MAX_MESSAGE
from tests.support.providers.provider import Provider
from tests.support.raw_http import FORM, RawConnection, logout_request
from tests.support.receiver import Receiver, config
from tests.support.servers.redis_server import RedisServer

HEAD = f"POST /backchannel-logout HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n".encode()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="module")
def receiver(
    provider: Provider, shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Receiver]:
    directory: Path = tmp_path_factory.mktemp("receiver")
    toml = config(shared_redis.url, f'issuer = "{provider.issuer}"', top='body_timeout = "2s"')
    receiver = Receiver(directory, toml)
    yield receiver.start()
    receiver.stop()


def cut_off(connection: RawConnection, piece: bytes) -> int:
    """Send until the server closes the connection. Returns the number of bytes."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 64 << 20:
            connection.socket.sendall(piece)
            sent += len(piece)
    return sent


@pytest.mark.parametrize("size", [20_000, 333_000, 900_000])
@pytest.mark.parametrize("slow", [False, True], ids=["fast", "slow"])
@pytest.mark.parametrize("announced", [True, False], ids=["length", "chunked"])
def test_a_body_that_is_too_large_is_answered(
    size: int, slow: bool, announced: bool, receiver: Receiver
) -> None:
    """The client reads only after sending everything, as most do."""
    body = b"logout_token=" + b"x" * size
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    if not announced:
        length = b"Transfer-Encoding: chunked\r\n\r\n"
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    data = HEAD + length + body
    step = len(data) // 8 if slow else len(data)
    for _ in range(1 if slow else 10):
        with RawConnection(receiver.url) as connection:
            pieces = [data[at : at + step] for at in range(0, len(data), step)]
            answer = connection.send(*pieces, pause=0.02 if slow else 0).answer()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"body_too_large" in answer


def test_an_announced_body_that_is_too_large_is_not_awaited(receiver: Receiver) -> None:
    expecting = HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1)
    with RawConnection(receiver.url) as connection:
        answer = connection.send(expecting).answer()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"connection: close" in answer
        assert connection.has_ended()


def test_a_length_with_leading_zeros_is_a_length(receiver: Receiver, provider: Provider) -> None:
    """RFC 9110, 8.6: any number of digits. Python reads at most 4,300."""
    for body, status in (
        (b"logout_token=" + provider.token().encode(), b"200"),
        (b"logout_token=" + b"x" * MAX_BODY, b"400"),
    ):
        expecting = HEAD + b"Expect: 100-continue\r\nConnection: close\r\n"
        with RawConnection(receiver.url) as connection:
            connection.send(expecting + b"Content-Length: %05000d\r\n\r\n" % len(body), body)
            assert connection.answers_until_end()[-1:] == [status]


def test_broken_http_is_answered_however_much_follows(receiver: Receiver) -> None:
    for url in (receiver.url, receiver.admin_url):
        for _ in range(10):
            with RawConnection(url) as connection:
                answer = connection.send(b"no http\r\n\r\n" + b"x" * 500_000).answer()
                assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("more", [b"bro ken\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_broken_bytes_after_a_request_do_not_cost_its_response(
    more: bytes, receiver: Receiver, provider: Provider
) -> None:
    good = logout_request(provider.token())
    with RawConnection(receiver.url) as connection:
        assert connection.send(good + good + more).answers_until_end() == [b"200"] * 2


@pytest.mark.slow
def test_a_client_that_keeps_sending_after_the_response_is_cut_off(receiver: Receiver) -> None:
    """By size and by time."""
    with RawConnection(receiver.url) as connection:
        connection.send(HEAD + b"Content-Length: 99999999\r\n\r\n")
        assert cut_off(connection, b"x" * 65536) < 64 << 20
    with RawConnection(receiver.url) as connection:
        connection.send(HEAD + b"Content-Length: 99999999\r\n\r\n")
        connection.answers_until_end()
        connection.socket.settimeout(0.05)
        with contextlib.suppress(ConnectionError):
            for _ in range(1200):
                connection.send(b"x", pause=0.05)
            pytest.fail("the connection is kept")


@pytest.mark.parametrize(
    "piece",
    [b"0\r\nX-Trailer: " + b"x" * 65536, b"1;" + b"x" * 65536],
    ids=["trailer", "chunk extension"],
)
def test_trailers_and_chunk_extensions_are_limited(piece: bytes, receiver: Receiver) -> None:
    """The parser would keep a trailer of any length in memory."""
    with RawConnection(receiver.url) as connection:
        connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + piece)
        assert cut_off(connection, b"x" * 65536) < 64 << 20
    assert MAX_MESSAGE < 64 << 20


@pytest.mark.parametrize("complete", [True, False])
def test_a_client_that_closes_its_side_gets_its_response(
    complete: bool, receiver: Receiver, provider: Provider
) -> None:
    good = logout_request(provider.token())
    with RawConnection(receiver.url) as connection:
        if complete:
            connection.send(good)
        else:
            connection.send(good[:-5], good[-5:], pause=0.1)
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.answers_until_end() == [b"200"]
    with RawConnection(receiver.admin_url) as connection:
        connection.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.answers_until_end() == [b"200"]


def test_pipelined_requests_of_a_client_that_closes_its_side_are_all_answered(
    receiver: Receiver, provider: Provider
) -> None:
    good = logout_request(provider.token())
    with RawConnection(receiver.url) as connection:
        connection.send(good * 5)
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.answers_until_end() == [b"200"] * 5


def test_a_connection_closed_in_the_middle_of_a_request_ends(
    receiver: Receiver, provider: Provider
) -> None:
    good = logout_request(provider.token())
    for end in (0, 10, len(good) - 1):
        with RawConnection(receiver.url) as connection:
            connection.send(good[:end])
            connection.socket.shutdown(socket.SHUT_WR)
            assert connection.answers_until_end() == []
