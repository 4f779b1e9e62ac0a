"""Programs from Debian's packages, unpacked into the bench's own directory.

Nothing is installed: no service starts, the machine stays unchanged, and only refreshing apt's
lists needs root. ``python -m bench.servers.debian`` fetches them.
"""

import os
import shutil
import subprocess
from pathlib import Path

PACKAGES = ("apache2-bin", "libapache2-mod-auth-openidc", "redis-server")

TREE = Path(__file__).parents[2] / ".cache/bench/debian"


def find(path: str) -> str | None:
    """The path of a file of the packages, unpacked here or installed, or None."""
    places = (root / path for root in (TREE, Path("/")))
    return next((str(place) for place in places if place.exists()), None)


def environment() -> dict[str, str]:
    """The environment with which the programs find their libraries."""
    folders = {str(library.parent) for library in TREE.glob("usr/lib/*/lib*.so*")}
    return {"LD_LIBRARY_PATH": ":".join(sorted(folders))}


def fetch() -> None:
    """Downloads the packages and their missing dependencies with apt-get."""
    if TREE.exists():
        return
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        print("no apt-get: mod_auth_openidc and Redis 7 are not measured")
        return
    packed = TREE.with_name("packed")
    (packed / "partial").mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        _run("apt-get", "-qq", "update")
    options = ("-o", f"Dir::Cache::archives={packed}", "-o", "Debug::NoLocking=true")
    if not _run(
        "apt-get", "-qq", "install", "--yes", "--download-only", "--no-install-recommends",
        *options, *PACKAGES,
    ):  # fmt: skip
        print("apt-get cannot download them: mod_auth_openidc and Redis 7 are not measured")
        return
    unpacked = TREE.with_name("unpacked")
    shutil.rmtree(unpacked, ignore_errors=True)
    for package in packed.glob("*.deb"):
        _run("dpkg-deb", "--extract", str(package), str(unpacked))
    unpacked.rename(TREE)
    shutil.rmtree(packed)


def _run(*command: str) -> bool:
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    fetch()
