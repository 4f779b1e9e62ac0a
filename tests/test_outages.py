"""The answers to a provider during outages, with real processes."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.store.errors import WAITAOF_MISSING
from backchannel_logout import AppKeys, RevocationUnknown, SessionGuard
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, crashes, wait_for
from tests.support.servers.redis_server import RedisServer

KEYS = AppKeys("shop")

# The shortest timeout of a provider is 2.5 s; a library's own retries would take fourteen.
PATIENCE = 4


def post(receiver: Receiver, token: str) -> httpx.Response:
    data = {"logout_token": token}
    return receiver.http.post(receiver.url + "/backchannel-logout", data=data, timeout=PATIENCE)


NO_JOURNAL = 'journal = "off"'


@contextlib.contextmanager
def receiving(
    directory: Path, server: RedisServer, provider: Provider, top: str = "", *, ready: bool = True
) -> Iterator[Receiver]:
    receiver = Receiver(directory, config(server.url, f'issuer = "{provider.issuer}"', top=top))
    try:
        yield receiver.start(ready=ready)
    finally:
        receiver.stop()


def stop_redis(server: RedisServer, how: str) -> None:
    if how == "frozen":
        server.freeze()
    else:
        server.stop(signal.SIGKILL)


def restore_redis(server: RedisServer, how: str) -> None:
    if how == "frozen":
        server.thaw()
    else:
        server.start()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_without_redis_and_journal_the_answer_is_503_and_the_same_token_succeeds_later(
    how: str, tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """The jti is stored only with the marker, so the retry is not a replay."""
    token = provider.token(sid="s")
    with receiving(tmp_path / "r", redis_server, provider, NO_JOURNAL) as receiver:
        stop_redis(redis_server, how)
        answer = post(receiver, token)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["error"] == "temporarily_unavailable"
        wait_for(lambda: receiver.readyz().status_code == 503, "readiness sees it", receiver)
        assert "journal" not in receiver.readyz().json()
        assert receiver.http.get(receiver.admin_url + "/livez").status_code == 200
        restore_redis(redis_server, how)
        assert post(receiver, token).status_code == 200
        with redis_server.client() as client:
            assert client.exists(KEYS.sid(provider.issuer, "s"))
            assert client.xlen(KEYS.events) >= 1
        wait_for(lambda: receiver.readyz().status_code == 200, "readiness sees the end", receiver)
        assert not (tmp_path / "r" / "data").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_without_redis_the_journal_stores_it_and_redis_gets_it_later(
    how: str, receiver: Receiver, redis_server: RedisServer, provider: Provider
) -> None:
    """The answer is 200, the service stays ready, and no retry is needed."""
    tokens = [provider.token(sid=f"s{n}") for n in range(3)]
    stop_redis(redis_server, how)
    for token in [*tokens, tokens[0]]:
        answer = post(receiver, token)
        assert (answer.status_code, answer.content) == (200, b"")
    wait_for(lambda: not redis_of(receiver)["writable"], "readiness sees the outage", receiver)
    ready = receiver.readyz()
    assert ready.status_code == 200
    assert ready.json()["journal"] == {
        "writable": True, "error": None, "waiting": 3, "set_aside": 0,
    }  # fmt: skip
    restore_redis(redis_server, how)
    wait_for(lambda: waiting(receiver) == 0, "the journal is empty", receiver)
    with redis_server.client() as client:
        assert all(client.exists(KEYS.sid(provider.issuer, f"s{n}")) for n in range(3))
        sids = sorted(fields["sid"] for _, fields in client.xrange(KEYS.events))
        assert sids == ["s0", "s1", "s2"], "each once"
    assert post(receiver, tokens[0]).status_code == 200


def redis_of(receiver: Receiver) -> Any:
    return receiver.readyz().json()["redis"]


def waiting(receiver: Receiver) -> int:
    """The entries of the journal that wait for Redis."""
    count: int = receiver.readyz().json()["journal"]["waiting"]
    return count


@pytest.mark.slow
def test_the_journal_survives_kill_9_of_the_receiver(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """Right after the answer, when the provider counts the user as signed out."""
    with receiving(tmp_path / "r", redis_server, provider) as receiver:
        redis_server.stop(signal.SIGKILL)
        assert post(receiver, provider.token(sid="s")).status_code == 200
        receiver.stop(signal.SIGKILL)
        redis_server.start()
        receiver.start()
        wait_for(lambda: waiting(receiver) == 0, "the journal is empty", receiver)
        with redis_server.client() as client:
            assert client.exists(KEYS.sid(provider.issuer, "s"))


def test_without_the_key_the_answer_is_503_and_the_same_token_succeeds_later(
    receiver: Receiver, provider: Provider
) -> None:
    provider.mode = "500"
    provider.rotate("k2")
    token = provider.token()
    answer = post(receiver, token)
    assert answer.status_code == 503
    assert answer.json()["error_description"].startswith("keys_unavailable: ")
    provider.mode = "ok"
    assert post(receiver, token).status_code == 200


@pytest.mark.slow
def test_a_hanging_key_server_delays_no_answer(receiver: Receiver, provider: Provider) -> None:
    provider.mode = "hang"
    provider.rotate("k2")
    assert post(receiver, provider.token()).status_code == 503


@pytest.mark.slow
def test_the_service_is_ready_despite_a_dead_provider(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """Other providers' logouts are served; the body of /readyz has the fault."""
    with Provider() as dead:
        dead.mode = "hang"
        text = config(
            redis_server.url, f'issuer = "{provider.issuer}"', f'issuer = "{dead.issuer}"',
            clients='[{client_id = "shop-web", app = "shop"}]',
        )  # fmt: skip
        receiver = Receiver(tmp_path / "r", text).start()
        try:
            assert post(receiver, provider.token()).status_code == 200
            issuers = lambda: receiver.readyz().json()["issuers"]  # noqa: E731
            wait_for(lambda: issuers()[dead.issuer]["error"] == "timeout", "it is named", receiver)
            assert issuers()[provider.issuer]["error"] is None
        finally:
            receiver.stop()


@pytest.mark.slow
@pytest.mark.parametrize(("top", "status"), [("", 200), (NO_JOURNAL, 503)])
def test_it_starts_without_redis(
    top: str, status: int, tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """With a journal, logouts are accepted before the first contact with Redis."""
    redis_server.stop()
    with receiving(tmp_path / "r", redis_server, provider, top, ready=False) as receiver:
        assert post(receiver, provider.token(sid="s")).status_code == status
        redis_server.start()
        wait_for(lambda: redis_of(receiver)["writable"], "Redis is there at last", receiver)
        assert receiver.readyz().status_code == 200
        with redis_server.client() as client:
            assert client.hget(KEYS.meta, "max_session_age") == str(30 * 86400)
            if status == 200:
                marker = KEYS.sid(provider.issuer, "s")
                wait_for(lambda: client.exists(marker), "it was applied", receiver)


def test_a_level_that_the_server_cannot_reach_is_reported_before_the_first_logout(
    tmp_path: Path, provider: Provider, without_waitaof: RedisServer
) -> None:
    """Each logout stays in the journal, and the answer is 200."""
    fsync = 'durability = "fsync"'
    with receiving(tmp_path / "receiver", without_waitaof, provider, fsync) as receiver:
        said = receiver.readyz().json()["redis"]
        assert said == {"writable": True, "error": None, "durability_error": WAITAOF_MISSING}
        (warning,) = receiver.wait_for_log_event("redis", what="durability")
        assert warning["detail"] == WAITAOF_MISSING
        assert post(receiver, provider.token()).status_code == 200
        assert receiver.readyz().json()["journal"]["waiting"] == 1


@pytest.mark.slow
def test_a_redis_that_came_back_empty_gets_its_meta_again(
    receiver: Receiver, redis_server: RedisServer
) -> None:
    """Guards read the app's age from there."""
    with redis_server.client() as client:
        client.flushall()
        wait_for(lambda: client.exists(KEYS.meta), "meta is written again", receiver)


@pytest.mark.slow
def test_no_ended_session_passes_while_an_emptied_redis_is_restored(
    receiver: Receiver, provider: Provider, redis_server: RedisServer
) -> None:
    """A guard that polls gets no answer, then the end, but never "alive"."""
    ended = 500
    for n in range(ended):
        assert post(receiver, provider.token(sid=f"s{n}", jti=f"j{n}")).status_code == 200
    session = {"iss": provider.issuer, "sid": "s0", "sub": None, "login_at": int(time.time()) - 60}
    guard = SessionGuard(redis_server.url, app="shop")
    verdicts: list[bool | None] = []

    def check() -> bool:
        try:
            verdicts.append(guard.is_revoked(session))
        except RevocationUnknown:
            verdicts.append(None)
        return verdicts[-1] is True

    try:
        assert check()
        verdicts.clear()
        with redis_server.client() as client:
            client.flushall()
        wait_for(check, "the session is known as ended again", receiver, every=0)
    finally:
        guard.close()
    assert set(verdicts[:-1]) <= {None}


def test_sigterm_lets_the_requests_in_flight_finish(
    receiver: Receiver, redis_server: RedisServer, provider: Provider
) -> None:
    """No new connections, all pending answers, Redis closed, exit status 0."""
    process = receiver.process
    assert process is not None
    provider.mode = "hang"
    provider.rotate("k2")
    with contextlib.ExitStack() as stack:
        before = provider.key_fetches
        flying = [stack.enter_context(connection(receiver.url)) for _ in range(8)]
        for n, one in enumerate(flying):
            send(one, provider.token(sid=f"f{n}"))
        wait_for(lambda: provider.key_fetches > before, "the requests wait for a key", receiver)
        # The event loop has read everything before this answer.
        assert receiver.http.get(receiver.admin_url + "/livez").status_code == 200
        os.kill(process.pid, signal.SIGTERM)
        # The two listeners close together; no shutdown waits for this one.
        wait_for(lambda: not connects(receiver.admin_url), "the listeners are closed", receiver)
        assert {one.getresponse().status for one in flying} == {503}
    assert process.wait(20) == 0
    assert not crashes(receiver.log)
    assert receiver.log_events("service", outcome="stopped")
    with redis_server.client() as client:
        names = [one["name"] for one in client.client_list()]
    assert "backchannel-logout-receiver" not in names


def connection(url: str) -> contextlib.closing[HTTPConnection]:
    """A plain connection, because a library's pool closes idle ones after five seconds."""
    return contextlib.closing(HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE))


def send(one: HTTPConnection, token: str) -> None:
    """POSTs a token without waiting for the answer."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    one.request("POST", "/backchannel-logout", f"logout_token={token}", headers)


def connects(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2):
            return True
    except OSError:
        return False


@pytest.mark.slow
def test_a_shutdown_under_load_loses_no_accepted_logout(
    receiver: Receiver, redis_server: RedisServer, provider: Provider
) -> None:
    """Every 200 has a marker and an event, even the last one."""
    acknowledged: list[str] = []
    stop = threading.Event()

    def load(thread: int) -> None:
        with httpx.Client(timeout=PATIENCE) as client:
            for n in range(10_000):
                if stop.is_set():
                    return
                sid = f"{thread}-{n}"
                data = {"logout_token": provider.token(sid=sid)}
                try:
                    answer = client.post(receiver.url + "/backchannel-logout", data=data)
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    acknowledged.append(sid)

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, n) for n in range(4)]
        wait_for(lambda: len(acknowledged) > 200, "the load runs", receiver)
        assert receiver.stop() == 0
        stop.set()
        for done in loads:
            done.result()
    with redis_server.client() as client:
        written = {fields["sid"] for _, fields in client.xrange(KEYS.events)}
        assert set(acknowledged) <= written
        assert all(client.exists(KEYS.sid(provider.issuer, sid)) for sid in acknowledged)


@pytest.mark.slow
def test_an_idle_connection_stays_open_for_more_than_five_seconds(
    receiver: Receiver, provider: Provider
) -> None:
    """Providers reuse the connection of the last logout."""
    with connection(receiver.url) as client:
        send(client, provider.token())
        assert client.getresponse().read() == b""
        own_port = client.sock.getsockname()
        time.sleep(6.5)
        send(client, provider.token())
        assert client.getresponse().status == 200
        assert client.sock.getsockname() == own_port
