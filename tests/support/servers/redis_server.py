"""A real Valkey or Redis of a test's own: free port, own directory, killed without mercy."""

import contextlib
import random
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest
import redis

from app.devtools.embedded_redis import find_server

# Below those that systems give to outgoing connections (Linux: from 32768): a server that is
# started again must find its own port free.
_PORTS = range(15_000, 32_000)

# Some libraries seed the common generator, in every worker alike.
_ANY = random.SystemRandom()

# Somebody may be about to listen there.
_given: set[int] = set()


def free_port() -> int:
    """Return a free port."""
    while True:
        port = _ANY.choice(_PORTS)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class RedisServer:
    """One server process with an append-only file; restarts on the same port and files."""

    def __init__(self, directory: Path, *options: str, config_file: Path | None = None) -> None:
        """With a ``config_file`` it is a Sentinel, which rewrites that file."""
        self.directory = directory
        self.config_file = config_file
        self.port = free_port()
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: object) -> redis.Redis:
        """A plain client whose answers are text."""
        client: redis.Redis = redis.Redis.from_url(self.url, decode_responses=True, **options)
        return client

    def start(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return self
            except (redis.ResponseError, redis.AuthenticationError):
                return self  # it answers, if only that it wants a password
            except redis.RedisError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.02)

    def _command(self) -> list[str]:
        command = [find_server()]
        if self.config_file is not None:
            command += [str(self.config_file), "--sentinel"]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        if self.config_file is None:
            command += ["--appendonly", "yes", "--save", ""]
        return [*command, *self.options]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the process; SIGKILL for a crash."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(20)
            self.process = None

    def require(self, command: str) -> None:
        """Skip the test where this server is too old to know a command."""
        if not self.knows(command):
            with self.client() as client:
                version = client.info("server")["redis_version"]
            pytest.skip(f"Redis {version} has no {command}")

    def knows(self, command: str) -> bool:
        """Whether this server has a command that wants arguments."""
        with self.client() as client:
            try:
                client.execute_command(command)
            except redis.ResponseError as error:
                return "unknown command" not in str(error)
        return True

    def freeze(self) -> None:
        """Stop answering without closing a connection."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
