"""``redis_url = "embedded"``: a receiver with its own server, whatever of the two dies."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.devtools.embedded_redis import find_server
from backchannel_logout import AppKeys
from tests.devtools.conftest import servers_on
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, run_app, wait_for
from tests.support.servers.redis_server import free_port


def embedded_config(provider: Provider, data_dir: Path, port: int) -> str:
    top = f"data_dir = {json.dumps(str(data_dir))}\nembedded_port = {port}"
    return config("embedded", f'issuer = "{provider.issuer}"', top=top)


@pytest.fixture
def alone(tmp_path: Path, provider: Provider, data_dir: Path, port: int) -> Iterator[Receiver]:
    """A running receiver with its own embedded server."""
    process = Receiver(tmp_path / "receiver", embedded_config(provider, data_dir, port))
    process.start()
    yield process
    process.stop(signal.SIGTERM)


def log_out(receiver: Receiver, provider: Provider, sid: str) -> None:
    """A logout that the receiver acknowledges."""
    answer = receiver.post(provider.token(sid=sid))
    assert answer.status_code == 200, answer.text


def answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client, contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def marked(receiver: Receiver, provider: Provider) -> set[str]:
    """Which of the sessions that the tests end have a marker."""
    keys = AppKeys("shop")
    with redis.Redis.from_url(receiver.redis_url) as client:
        return {
            sid for sid in ("one", "two", "three") if client.exists(keys.sid(provider.issuer, sid))
        }


@pytest.mark.slow
def test_the_printed_url_works_for_apps_and_the_log_does_not_tell_it(
    alone: Receiver, provider: Provider, data_dir: Path, port: int
) -> None:
    log_out(alone, provider, "one")
    assert marked(alone, provider) == {"one"}
    assert f"@127.0.0.1:{port}/0" in alone.redis_url
    password = (data_dir / "password").read_text().strip()
    telling = [line for line in alone.log.splitlines() if password in line]
    assert [line.partition(":")[0] for line in telling] == ["embedded Redis for apps"]


@pytest.mark.slow
def test_sigterm_stops_the_server_too_and_a_restart_finds_the_markers(
    alone: Receiver, provider: Provider, port: int
) -> None:
    log_out(alone, provider, "one")
    assert alone.stop(signal.SIGTERM) == 0
    assert servers_on(port) == []
    alone.start()
    assert marked(alone, provider) == {"one"}
    log_out(alone, provider, "two")
    assert marked(alone, provider) == {"one", "two"}


@pytest.mark.slow
def test_after_kill_9_of_the_receiver_its_server_ends_and_the_markers_are_found(
    alone: Receiver, provider: Provider, port: int
) -> None:
    log_out(alone, provider, "one")
    alone.stop(signal.SIGKILL)
    if sys.platform == "linux":
        wait_for(lambda: not servers_on(port), "its server has ended, too", alone)
    alone.start()
    assert marked(alone, provider) == {"one"}
    assert len(servers_on(port)) == 1


@pytest.mark.slow
def test_the_orphan_of_a_receiver_is_taken_over_by_the_next_one(
    alone: Receiver, provider: Provider, port: int, data_dir: Path
) -> None:
    """Where nothing ends it with its receiver. The orphan still takes writes; they are kept, and
    then there is one server again."""
    log_out(alone, provider, "one")
    alone.stop(signal.SIGKILL)
    wait_for(lambda: not servers_on(port), "its server has ended, too", alone)
    with (data_dir / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        started = subprocess.Popen(
            [find_server(), data_dir / "server.conf"],
            pass_fds=(lock.fileno(),), stdout=subprocess.DEVNULL,
        )  # fmt: skip
    wait_for(lambda: servers_on(port) and answers(alone.redis_url), "an orphan serves")
    (orphan,) = servers_on(port)
    with redis.Redis.from_url(alone.redis_url) as app:
        app.set("written by an app", "meanwhile")
    alone.start()
    started.wait(20)
    (server,) = servers_on(port)
    assert server != orphan
    assert alone.wait_for_log_event("embedded", outcome="orphan", action="stop")
    assert marked(alone, provider) == {"one"}
    with redis.Redis.from_url(alone.redis_url) as app:
        assert app.get("written by an app") == b"meanwhile"
    log_out(alone, provider, "two")
    assert marked(alone, provider) == {"one", "two"}


@pytest.mark.slow
def test_after_kill_9_of_the_server_no_logout_is_lost(
    alone: Receiver, provider: Provider, port: int
) -> None:
    """The receiver starts it again on the same files; meanwhile the journal takes logouts."""
    log_out(alone, provider, "one")
    (killed,) = servers_on(port)
    os.kill(killed, signal.SIGKILL)
    log_out(alone, provider, "two")

    def in_redis() -> bool:
        return alone.readyz().json()["redis"]["writable"] and len(servers_on(port)) == 1

    wait_for(in_redis, "the server runs again", alone)
    assert killed not in servers_on(port)
    wait_for(lambda: marked(alone, provider) == {"one", "two"}, "both are in Redis", alone)


@pytest.mark.slow
def test_after_kill_9_of_both_the_markers_are_found(
    alone: Receiver, provider: Provider, port: int
) -> None:
    """As when the machine's memory runs out."""
    log_out(alone, provider, "one")
    alone.stop(signal.SIGKILL)
    for pid in servers_on(port):
        os.kill(pid, signal.SIGKILL)
    alone.start()
    assert marked(alone, provider) == {"one"}
    assert len(servers_on(port)) == 1


@pytest.mark.slow
def test_a_second_receiver_ends_with_a_sentence_and_the_first_one_goes_on(
    alone: Receiver, provider: Provider, data_dir: Path, port: int, tmp_path: Path
) -> None:
    log_out(alone, provider, "one")
    (tmp_path / "second.toml").write_text(embedded_config(provider, data_dir, free_port()))
    ended = run_app("serve", "--config", "second.toml", cwd=tmp_path)
    assert ended.returncode == 1
    assert f"another receiver runs the embedded server of {data_dir}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(servers_on(port)) == 1
    log_out(alone, provider, "two")
    assert marked(alone, provider) == {"one", "two"}


@pytest.mark.slow
def test_a_busy_port_ends_the_receiver_with_a_sentence(
    provider: Provider, data_dir: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "settings.toml").write_text(embedded_config(provider, data_dir, port))
        ended = run_app("serve", "--config", "settings.toml", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"cannot start: embedded_port: 127.0.0.1:{port} cannot be used (Address already in use)"
    ]
