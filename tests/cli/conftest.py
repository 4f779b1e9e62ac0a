"""The commands, run in this process, with real providers and a real Redis."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.cli import main


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
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
