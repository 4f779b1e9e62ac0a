"""The measured servers, a file for each: a process on the servers' core, with its own Redis, if it
needs one, on the load's core. `throughput.ROWS` has their order in the table."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import load
from bench.machine import cores, on_cores
from bench.tokens import Token
from tests.support.providers.provider import Provider
from tests.support.servers.redis_server import RedisServer, free_port

__all__ = ["NotMeasured", "Rig", "Server", "check", "free_port"]

_START_SECONDS = 30


class NotMeasured(Exception):
    """This row cannot be measured here; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, and how to send to it."""

    name: str
    port: int
    path: str
    pid: int
    success: int = 200
    redis: RedisServer | None = None
    prepare: Callable[[Sequence[Token]], object] = len
    """Creates the sessions that the tokens will end, for servers that look them up."""
    ended: Callable[[Sequence[Token]], object] = len
    """Whether the server's data in Redis says that each of these sessions has ended."""

    def requests(self, tokens: Sequence[Token]) -> list[bytes]:
        return [token.request(self.path) for token in tokens]

    def send(
        self,
        tokens: Sequence[Token],
        *,
        rate: float | None = None,
        connections: int = load.CONNECTIONS,
    ) -> load.LoadResult:
        """Sends tokens that must all succeed. Raises `load.LoadFault`."""
        requests = self.requests(tokens)
        try:
            outcome = load.send(self.port, requests, rate=rate, connections=connections)
        except (load.LoadFault, OSError) as fault:
            raise load.LoadFault(f"{self.name}: {fault}") from fault
        if set(outcome.statuses) != {self.success}:
            refusal = outcome.refusal.rpartition(b"\r\n\r\n")[2].decode(errors="replace")
            raise load.LoadFault(f"{self.name} answered {dict(outcome.statuses)}: {refusal[:200]}")
        return outcome


@dataclass(frozen=True, slots=True)
class Rig:
    """A directory for servers, and the provider that they trust."""

    directory: Path
    provider: Provider

    @contextlib.contextmanager
    def redis(self, name: str, *options: str) -> Iterator[RedisServer]:
        """A Redis for one row, on the load's core, with an append-only file."""
        server = RedisServer(self.directory / f"redis-{name}", *options)
        with on_cores(cores()[1]):
            server.start()
        try:
            yield server
        finally:
            server.stop()

    @contextlib.contextmanager
    def process(
        self,
        name: str,
        port: int,
        command: Sequence[str],
        *,
        environ: dict[str, str] | None = None,
        own_cores: Sequence[int] = (),
    ) -> Iterator[int]:
        """The id of a process on the servers' core (or ``own_cores``), once it listens."""
        directory = self.directory / name
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "log").open("wb") as log, on_cores(*own_cores or cores()[:1]):
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
                env=os.environ | (environ or {}),
            )
        try:
            _wait_for(port, process, directory / "log")
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} does not listen:\n{log.read_text()[-2000:]}")
        time.sleep(0.02)


def check(server: Server, tokens: Sequence[Token]) -> None:
    """Checks that the server refuses forged tokens and applies genuine ones."""
    server.prepare(tokens)
    forged = load.send(server.port, server.requests([token.forged() for token in tokens]))
    if set(forged.statuses) != {400}:
        raise RuntimeError(f"{server.name} answered forged tokens with {dict(forged.statuses)}")
    if server.redis is not None and server.ended(tokens):
        raise RuntimeError(f"{server.name}: sessions ended by forged tokens")
    server.send(tokens)
    if not server.ended(tokens):
        raise RuntimeError(f"{server.name}: sessions are alive although their logout was accepted")
