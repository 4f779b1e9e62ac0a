"""A stop while providers send resets no well-behaved client. Real processes, real sockets."""

import contextlib
import os
import signal
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest

from app.server.shutdown import begin_no_more
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, wait_for

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def connection(url: str) -> contextlib.closing[HTTPConnection]:
    return contextlib.closing(HTTPConnection(url.removeprefix("http://"), timeout=5))


def post(client: HTTPConnection, token: str) -> bool:
    """Send a token. Returns whether the connection may be used again."""
    client.request("POST", "/backchannel-logout", f"logout_token={token}", FORM)
    answer = client.getresponse()
    answer.read()
    assert answer.status == 200
    return answer.headers.get("connection") != "close"


def keep_sending(receiver: Receiver, tokens: list[str], *, keep_alive: bool) -> Counter[str]:
    """Send until nothing listens any more. Returns a count of what happened."""
    seen: Counter[str] = Counter()
    while True:
        with connection(receiver.url) as client:
            try:
                client.connect()
            except OSError:
                # Refused or not answered: there was no connection to reset.
                return seen
            try:
                while post(client, tokens[seen["answered"] % len(tokens)]):
                    seen["answered"] += 1
                    if not keep_alive:
                        break
                else:
                    seen["answered"] += 1
                    seen["answered and closed"] += 1
            except Exception as error:  # noqa: BLE001  anything but a response
                seen[type(error).__name__] += 1


@pytest.mark.parametrize("keep_alive", [True, False], ids=["keep-alive", "new connections"])
@pytest.mark.slow
def test_a_stop_under_load_resets_no_client(
    keep_alive: bool, receiver: Receiver, provider: Provider
) -> None:
    """Every request on an accepted connection gets its response."""
    assert receiver.process is not None
    tokens = [provider.token(sid=str(n)) for n in range(50)]
    with ThreadPoolExecutor(8) as pool:
        load = [
            pool.submit(keep_sending, receiver, tokens, keep_alive=keep_alive) for _ in range(8)
        ]
        wait_for(lambda: receiver.log.count('"outcome":') > 300, "the load runs", receiver)
        os.kill(receiver.process.pid, signal.SIGTERM)
        seen = sum((sender.result() for sender in load), Counter())
    assert receiver.process.wait(20) == 0
    assert set(seen) <= {"answered", "answered and closed"}, seen
    assert seen["answered"] > 300


@pytest.mark.slow
def test_a_stop_is_announced_at_once_and_requests_are_still_served(
    receiver: Receiver, provider: Provider
) -> None:
    """``/readyz`` reports it, and each response is the last one of its connection."""
    assert receiver.process is not None
    done = threading.Event()

    def trickle() -> None:
        while not done.is_set():
            with contextlib.suppress(OSError), connection(receiver.url) as client:
                post(client, token)

    token = provider.token()
    with ThreadPoolExecutor(1) as pool, connection(receiver.url) as kept:
        assert post(kept, token)
        pool.submit(trickle)
        os.kill(receiver.process.pid, signal.SIGTERM)
        wait_for(lambda: receiver.readyz().status_code == 503, "it is not ready", receiver)
        assert receiver.readyz().json()["stopping"] is True
        assert not post(kept, token), "the response has Connection: close"
        with connection(receiver.url) as late:
            assert not post(late, token)
        done.set()
    assert receiver.process.wait(20) == 0


def test_an_idle_connection_is_closed_without_a_reset(
    receiver: Receiver, provider: Provider
) -> None:
    with connection(receiver.url) as used, connection(receiver.url) as fresh:
        assert post(used, provider.token())
        fresh.connect()
        sockets = [used.sock, fresh.sock]
        assert receiver.stop() == 0
        assert [client.recv(1) for client in sockets] == [b"", b""]


def test_queued_connections_survive_the_refusal_of_new_ones() -> None:
    """The kernel drops later ones; earlier ones are accepted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address, timeout=5) as early:
            assert begin_no_more(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.2)
            accepted, name = listener.accept()
            accepted.close()
            assert name == early.getsockname()
