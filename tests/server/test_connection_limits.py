"""Clients that send too much, too slowly or nothing do not affect the others."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Protocol

import pytest

from app.config.model import Settings
from app.server.strict_http import MAX_HEADERS
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer

MAX_HEAD = Settings.model_fields["largest_head"].default

START = b"POST /backchannel-logout HTTP/1.1\r\nHost: x\r\n"


POST = START + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n"


class NewReceiver(Protocol):
    def __call__(self, top: str, issuers: int = 1) -> tuple[Any, ...]: ...


@pytest.fixture
def new_receiver(tmp_path: Path, redis_server: RedisServer) -> Iterator[NewReceiver]:
    """Starts a receiver with settings of the test, and returns it with its providers."""
    with contextlib.ExitStack() as stack:

        def start(top: str, issuers: int = 1) -> tuple[Any, ...]:
            providers = [stack.enter_context(Provider()) for _ in range(issuers)]
            text = config(redis_server.url, *(f'issuer = "{p.issuer}"' for p in providers), top=top)
            receiver = Receiver(tmp_path / "r", text)
            stack.callback(receiver.stop)
            return receiver.start(), *providers

        yield start


def connect(receiver: Receiver, url: str | None = None) -> socket.socket:
    host, port = (url or receiver.url).removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def cut_off(client: socket.socket, piece: bytes, times: int) -> bool:
    """Whether the server closes the connection while this is sent."""
    try:
        for _ in range(times):
            client.sendall(piece)
        while client.recv(1000):
            pass
        return True
    except ConnectionError:
        return True


def post(receiver: Receiver, token: str) -> tuple[int, str]:
    """Status and reason code of the response."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    with contextlib.closing(
        HTTPConnection(receiver.url.removeprefix("http://"), timeout=10)
    ) as connection:
        connection.request("POST", "/backchannel-logout", f"logout_token={token}", form)
        answer = connection.getresponse()
        content = answer.read()
    description = json.loads(content)["error_description"] if content else ""
    return answer.status, description.partition(":")[0]


@pytest.mark.parametrize(
    "piece", [b"a" * 65536, b"X-Header: a\r\n" * 5000], ids=["one header", "many headers"]
)
def test_endless_headers_are_cut_off(piece: bytes, receiver: Receiver, provider: Provider) -> None:
    """Reading on would keep the event loop busy."""
    with connect(receiver) as greedy:
        greedy.sendall(START + b"X-First: ")
        assert cut_off(greedy, piece, 20 * MAX_HEAD // len(piece))
    assert receiver.post(provider.token()).status_code == 200


@pytest.mark.slow
def test_heads_in_small_pieces_and_many_requests_on_one_connection_are_served(
    receiver: Receiver, provider: Provider
) -> None:
    """The limit applies to each head, not to the connection."""
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
def test_silent_connections_are_closed(new_receiver: NewReceiver) -> None:
    """Idle ones and those with half a head would use up the process's file descriptors."""
    receiver, provider = new_receiver('keep_alive = "2s"\nhead_timeout = "2s"')
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connect(receiver)) for _ in range(20)]
        for connection in silent[:10]:
            connection.sendall(START)
        assert receiver.post(provider.token()).status_code == 200
        assert all(cut_off(connection, b"", 0) for connection in silent)


def test_a_head_of_very_many_headers_is_refused(receiver: Receiver, provider: Provider) -> None:
    """Each costs a hundred bytes of memory, however short it is."""
    with connect(receiver) as greedy:
        greedy.sendall(START + b"".join(b"X-%d: a\r\n" % n for n in range(MAX_HEADERS)) + b"\r\n")
        assert greedy.recv(1000).startswith(b"HTTP/1.1 400")
    assert receiver.post(provider.token()).status_code == 200


@pytest.mark.slow
def test_a_body_that_drips_is_answered_and_then_cut_off(new_receiver: NewReceiver) -> None:
    """503 at the deadline; sending more does not keep the connection."""
    receiver, _ = new_receiver('body_timeout = "3s"')
    with connect(receiver) as slow:
        slow.sendall(POST % 5000)
        slow.settimeout(0.1)
        answer, began = b"", time.monotonic()
        while time.monotonic() < began + 20:
            try:
                slow.sendall(b"a")
                if not (chunk := slow.recv(1000)):
                    break
                answer += chunk
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("the connection is kept")
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"deadline: " in answer


@pytest.mark.slow
def test_a_client_that_never_reads_responses_is_cut_off(new_receiver: NewReceiver) -> None:
    """Its requests would hold memory indefinitely."""
    receiver, provider = new_receiver('body_timeout = "1s"')
    with connect(receiver) as client:
        client.settimeout(0.2)
        deadline = time.monotonic() + 60
        pipelined = (START + b"Content-Length: 0\r\n\r\n") * 200
        while time.monotonic() < deadline:
            try:
                client.sendall(pipelined)
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("the connection is kept")
    assert receiver.post(provider.token()).status_code == 200


@pytest.mark.slow
def test_new_clients_get_in_when_connections_are_held(new_receiver: NewReceiver) -> None:
    """The longest-waiting connection makes room: idle, or with half a request."""
    receiver, provider = new_receiver("max_connections = 16")
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(receiver)) for _ in range(100)]
        for n, connection in enumerate(held):
            # Some are cut off already.
            with contextlib.suppress(ConnectionError):
                connection.sendall([b"P", START, POST % 5000 + b"logout"][n % 3])
        assert receiver.post(provider.token()).status_code == 200
        assert receiver.readyz().status_code == 200
        assert all(cut_off(connection, b"", 0) for connection in held[:80])


@pytest.mark.slow
def test_the_operators_listener_has_its_own_connections(new_receiver: NewReceiver) -> None:
    """Public connections do not displace one that is kept open there."""
    receiver, _ = new_receiver("max_connections = 16")
    with contextlib.ExitStack() as stack:
        probe = stack.enter_context(connect(receiver, receiver.admin_url))
        for _ in range(50):
            stack.enter_context(connect(receiver))
        probe.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert probe.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
def test_each_issuer_has_a_share_of_the_places(new_receiver: NewReceiver) -> None:
    """A provider that hangs fills its own share; beyond it 503 at once, and others are served."""
    receiver, provider, other = new_receiver("max_in_flight = 16", issuers=2)
    provider.mode = "hang"
    provider.rotate("k2")
    token = provider.token()
    answers: set[tuple[int, str]] = set()
    done = threading.Event()

    def flood() -> None:
        while not done.is_set():
            answers.add(post(receiver, token))

    with ThreadPoolExecutor(16) as pool:
        for _ in range(16):
            pool.submit(flood)
        try:
            wait_for(lambda: (503, "overloaded") in answers, "it is full", receiver)
            assert post(receiver, other.token()) == (200, "")
        finally:
            done.set()
    assert {status for status, _ in answers} == {503}
