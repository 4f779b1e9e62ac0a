"""Runs Prometheus' own programs, from Debian's package ``prometheus``."""

import shutil
import subprocess
from pathlib import Path

import pytest


def program(name: str) -> str:
    """The path of ``promtool`` or ``prometheus``. Skips the test if it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"not installed: {name} (.ci/run installs it)")
    return path


def promtool(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *map(str, arguments)],
        input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
