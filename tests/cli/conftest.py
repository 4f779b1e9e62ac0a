"""The commands, run in this process, with real providers and a real Redis."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.cli import main
from app.telemetry.logs import setup
from tests.support.servers.redis_server import RedisServer


@dataclass(frozen=True)
class Ended:
    """A command's result."""

    status: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One per file: `check` and `status` list every app without a client, including those of other
    tests.
    """
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def log_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command configures the log of its process, which other tests share here."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: one.level for name, one in logging.root.manager.loggerDict.items()
              if isinstance(one, logging.Logger)}  # fmt: skip
    monkeypatch.setattr(setup, "_json_line", None)
    for name in setup._UNUSED:
        monkeypatch.setattr(logging, name, getattr(logging, name, None), raising=False)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, one in logging.root.manager.loggerDict.items():
        if isinstance(one, logging.Logger):
            one.setLevel(levels.get(name, logging.NOTSET))


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run a command with a settings file of this text."""
    for name in [name for name in os.environ if name.startswith("BCL_")]:
        monkeypatch.delenv(name)

    def run_command(command: str, settings: str, *arguments: str) -> Ended:
        path = tmp_path / "settings.toml"
        path.write_text(settings)
        status = main([command, "--config", str(path), *arguments])
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run_command
