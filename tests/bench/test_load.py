"""The load generator counts every answer, keeps its rate, and detects broken answers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.load import LoadFault, send, status_of
from bench.servers import Rig, asgi
from bench.tokens import Token

pytestmark = pytest.mark.slow

REQUEST = Token("a.b.c", "iss", "sid", "sub").request("/backchannel-logout")


def test_every_request_is_answered_once_and_counted(rig: Rig) -> None:
    with asgi.running(rig, "bare") as server:
        outcome = send(server.port, [REQUEST] * 500, connections=8)
    assert outcome.statuses == {200: 500}
    assert len(outcome.latencies) == 500
    assert outcome.rate == pytest.approx(500 / outcome.seconds)


def test_refusals_are_counted_by_their_status(rig: Rig) -> None:
    elsewhere = REQUEST.replace(b"/backchannel-logout", b"/elsewhere")
    with asgi.running(rig, "starlette") as server:
        outcome = send(server.port, [REQUEST, elsewhere, REQUEST], connections=2)
    assert outcome.statuses == {200: 2, 404: 1}


def test_a_server_that_does_not_succeed_fails_its_row(rig: Rig) -> None:
    with asgi.running(rig, "ceiling") as server, pytest.raises(LoadFault, match="400"):
        server.send([Token("a.b.c", "iss", "sid", "sub")])


def test_at_a_fixed_rate_nothing_is_sent_before_it_is_due(rig: Rig) -> None:
    with asgi.running(rig, "bare") as server:
        outcome = send(server.port, [REQUEST] * 100, rate=200)
    assert outcome.statuses == {200: 100}
    assert outcome.seconds > 0.3  # half a second on average, and the draw is always the same


def test_a_request_without_a_free_connection_counts_from_when_it_was_due(
    rig: Rig,
) -> None:
    with asgi.running(rig, "bare") as server:
        outcome = send(server.port, [REQUEST] * 100, rate=100_000, connections=1)
    assert len(outcome.sent) == 100
    assert max(outcome.sent) - min(outcome.sent) < outcome.seconds / 2  # due within a millisecond


def test_a_connection_that_the_server_closes_after_an_answer_is_opened_again() -> None:
    with _answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as port:
        assert send(port, [REQUEST] * 5, connections=1).statuses == {200: 5}


@pytest.mark.parametrize("answer", [b"", b"SMTP ready\r\n\r\n"], ids=["nothing", "no HTTP"])
def test_a_server_that_closes_or_does_not_speak_http_is_a_fault(answer: bytes) -> None:
    with _answering(answer) as port, pytest.raises(LoadFault):
        send(port, [REQUEST], connections=1)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nbad", 400),
        (b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 400),
        (b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nba", None),
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
    ],
)
def test_an_answer_counts_when_it_is_complete(answer: bytes, status: int | None) -> None:
    assert status_of(answer) == status


@contextmanager
def _answering(answer: bytes) -> Iterator[int]:
    """The port of a server that sends one answer to each connection and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                with link:
                    if link.recv(65536):
                        link.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
