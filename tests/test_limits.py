"""Clients that send too much, too slowly, or nothing: the honest ones are served meanwhile."""

import contextlib
import socket
from pathlib import Path

import pytest

from app.settings import Settings
from tests.support.provider import Provider
from tests.support.receiver import Receiver, config
from tests.support.redis_server import RedisServer

LARGEST_HEAD = Settings.model_fields["largest_head"].default

START = b"POST /backchannel-logout HTTP/1.1\r\nHost: x\r\n"


def connect(receiver: Receiver) -> socket.socket:
    host, port = receiver.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def cut_off(client: socket.socket, piece: bytes, times: int) -> bool:
    """Whether the server hangs up while all this is sent."""
    try:
        for _ in range(times):
            client.sendall(piece)
        while client.recv(1000):
            pass
        return True
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "piece", [b"a" * 65536, b"X-Header: a\r\n" * 5000], ids=["one header", "many headers"]
)
def test_endless_headers_are_cut_off(piece: bytes, receiver: Receiver, provider: Provider) -> None:
    """Reading on would keep the event loop busy for everybody else."""
    with connect(receiver) as greedy:
        greedy.sendall(START + b"X-First: ")
        assert cut_off(greedy, piece, 20 * LARGEST_HEAD // len(piece))
    assert receiver.post(provider.token()).status_code == 200


def test_a_head_in_small_pieces_and_many_requests_on_one_connection_are_served(
    receiver: Receiver, provider: Provider
) -> None:
    """The limit is for each request's head, not for a connection."""
    with connect(receiver) as patient:
        for _ in range(300):
            body = b"logout_token=" + provider.token().encode()
            head = START + b"Content-Type: application/x-www-form-urlencoded\r\n"
            head += b"Content-Length: %d\r\n\r\n" % len(body)
            patient.sendall(head[:20])
            patient.sendall(head[20:] + body[:5])
            patient.sendall(body[5:])
            assert patient.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
def test_silent_connections_are_not_kept_without_end(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """Else they use up the files of the process: those that say nothing, and half a head."""
    text = config(redis_server.url, f'issuer = "{provider.issuer}"', top='keep_alive = "2s"')
    receiver = Receiver(tmp_path / "r", text).start()
    try:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(connect(receiver)) for _ in range(20)]
            for one in silent[:10]:
                one.sendall(START)
            assert receiver.post(provider.token()).status_code == 200
            assert all(cut_off(one, b"", 0) for one in silent)
    finally:
        receiver.stop()
