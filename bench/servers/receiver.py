"""The receiver as in production: settings in a file, Redis, its log in a file."""

import contextlib
import functools
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from backchannel_logout import AppKeys
from bench.machine import cores, on_cores
from bench.servers import NotMeasured, Rig, Server, free_port
from bench.tokens import CLIENT_ID, Token
from tests.support.receiver import Receiver, clean_environment, config
from tests.support.servers.redis_server import RedisServer

PATH = "/backchannel-logout"
APP = "shop"

CLIENTS = f'[{{client_id = "{CLIENT_ID}", app = "{APP}"}}]'

ROOT = Path(__file__).parents[2]

Running = AbstractContextManager[Server]


@contextmanager
def running(
    rig: Rig,
    name: str = "receiver",
    *,
    top: str = "",
    issuers: Sequence[str] = (),
    clients: str = CLIENTS,
    own_cores: Sequence[int] = (),
    redis: RedisServer | None = None,
) -> Iterator[Server]:
    """A ready receiver, with its own Redis unless one is given. ``top`` is additional top-level
    TOML; ``issuers`` are names with the provider's keys.

    Raises `NotMeasured` for a setting that this receiver does not have.
    """
    with contextlib.ExitStack() as stack:
        redis = redis or stack.enter_context(rig.redis(name))
        port = free_port()
        text = _settings(rig, redis, issuers, top=top, clients=clients, ports=(port, 0))
        receiver = Receiver(rig.directory / name, text)
        stack.callback(receiver.stop, signal.SIGKILL)
        try:
            with on_cores(*own_cores or cores()[:1]):
                receiver.start()
        except AssertionError:
            if unknown := re.search(r"^.*unknown setting.*$", receiver.log, re.MULTILINE):
                raise NotMeasured(f"this receiver reports: {unknown[0].strip()}") from None
            raise
        assert receiver.process is not None
        ended = functools.partial(_ended, redis)
        yield Server(name, port, PATH, receiver.process.pid, redis=redis, ended=ended)
        receiver.stop()


@dataclass(frozen=True, slots=True)
class Starting:
    """A receiver that was just started. ``began`` is by ``time.perf_counter``."""

    admin_port: int
    began: float


@contextmanager
def starting(rig: Rig, redis: RedisServer) -> Iterator[Starting]:
    """A receiver on the servers' core, as soon as its process exists."""
    ports = (free_port(), free_port())
    directory = rig.directory / f"start-{ports[0]}"
    directory.mkdir()
    (directory / "settings.toml").write_text(_settings(rig, redis, ports=ports))
    with (directory / "log").open("wb") as log, on_cores(cores()[0]):
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--config", "settings.toml"],
            cwd=directory,
            stdout=log,
            stderr=log,
            env=clean_environment() | {"PYTHONPATH": str(ROOT)},
        )
    try:
        yield Starting(ports[1], began)
    finally:
        process.kill()
        process.wait()


def _settings(
    rig: Rig,
    redis: RedisServer,
    issuers: Sequence[str] = (),
    *,
    ports: tuple[int, int],
    top: str = "",
    clients: str = CLIENTS,
) -> str:
    provider = rig.provider
    tables = (
        f'issuer = "{issuer}"\njwks_uri = "{provider.origin}/jwks"\nalgorithms = ["{provider.alg}"]'
        for issuer in issuers or (provider.issuer,)
    )
    return config(redis.url, *tables, top=top, clients=clients, ports=ports)


def _ended(redis: RedisServer, tokens: Sequence[Token]) -> bool:
    """Whether each session has a marker."""
    keys = [AppKeys(APP).sid(token.iss, token.sid) for token in tokens]
    with redis.client() as client:
        return int(client.exists(*keys)) == len(keys)
