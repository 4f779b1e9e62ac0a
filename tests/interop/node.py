"""Checks whether a provider from npm can be started."""

import re
import shutil
import subprocess
from pathlib import Path

OLDEST_NODE = 20


def missing(folder: Path, package: str) -> str | None:
    """Why the package in this folder cannot run here; None if it can."""
    node = shutil.which("node")
    version = node and subprocess.check_output([node, "--version"], text=True)
    if not version or int(re.findall(r"\d+", version)[0]) < OLDEST_NODE:
        return f"Node >= {OLDEST_NODE} is missing"
    if not (folder / "node_modules" / package).is_dir():
        if (folder / "node_modules" / ".out-of-reach").exists():
            return "registry out of reach: npm"
        return "npm packages are not installed; make test-all installs them"
    return None
