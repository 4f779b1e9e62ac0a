"""Prometheus' own programs, as Debian's package ``prometheus`` brings them."""

import shutil
import subprocess
from pathlib import Path

import pytest


def program(name: str) -> str:
    """The path of ``promtool`` or ``prometheus``; skips the test where it is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"not installed: {name} (.ci/run installs it)")
    return found


def promtool(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *map(str, arguments)],
        input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
