"""Builds the Dockerfile without a container engine: with buildah.

The base is the distribution and Python of this machine in place of the Dockerfile's, whose registry
may be unavailable. The steps on top of it are the same.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CACHE = ROOT / ".cache/image"
NAME = "localhost/backchannel-logout-receiver"
NEEDED = ("buildah", "debootstrap", "unshare")

# The variables which name this machine's certificates for package clients.
_CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: its configuration, and its files in a directory."""

    config: dict[str, Any]
    tree: Path
    base_bytes: int
    bytes: int


def check_tools() -> None:
    """Skip the test if an image cannot be built."""
    if missing := [tool for tool in NEEDED if not shutil.which(tool)]:
        pytest.skip(f"not installed: {', '.join(missing)} (.ci/run installs them)")
    if os.geteuid() != 0:
        pytest.skip("building an image without an engine needs root")


@contextlib.contextmanager
def built() -> Iterator[Image]:
    """The image. It is built unless one of exactly these files exists. The base is kept, too."""
    CACHE.mkdir(parents=True, exist_ok=True)
    base, name = "localhost/python:slim", f"{NAME}:{_digest()}"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _exists(base):
            _make_base(base)
        if not _exists(name):
            _remove_images()
            with tempfile.TemporaryDirectory() as directory:
                _buildah("bud", "--isolation", "chroot", "--format", "docker", "--pull-never",
                         "--build-arg", f"BASE={base}", *_secrets(Path(directory)),
                         "-t", name, str(ROOT))  # fmt: skip
    with _mounted(base) as base_tree, _mounted(name) as tree:
        config = json.loads(_buildah("inspect", "--type", "image", name))
        yield Image(config["Docker"]["config"], tree, _size(base_tree), _size(tree))


def _digest() -> str:
    """A digest of all files in the image."""
    digest = hashlib.sha256()
    folders = (
        path for name in ("app", "clients/python") for path in sorted((ROOT / name).rglob("*"))
    )
    files = ("Dockerfile", ".dockerignore", "requirements/runtime.lock", "requirements/otel.lock",
             "requirements/build.lock", "pyproject.toml", "README.md", "LICENSE")  # fmt: skip
    for path in (*(ROOT / name for name in files), *folders):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _remove_images() -> None:
    """Remove older images, except those that another run uses."""
    for line in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").splitlines():
        if line.startswith(NAME):
            with contextlib.suppress(subprocess.CalledProcessError):
                _buildah("rmi", line)
    _buildah("rmi", "--prune")


def _make_base(name: str) -> None:
    os_release = Path("/etc/os-release").read_text()
    # Ubuntu has venv in its second component.
    components = "main,universe" if re.search(r"(?m)^ID=ubuntu$", os_release) else "main"
    release = re.search(r"^VERSION_CODENAME=(\w+)", os_release, re.MULTILINE)
    assert release is not None, "not a distribution that debootstrap knows"
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory, "tree")
        _run("debootstrap", "--variant=minbase", "--include=python3,python3-venv",
             f"--components={components}",
             release[1], str(tree))  # fmt: skip
        (tree / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        shutil.rmtree(tree / "var/cache/apt/archives")
        packed = Path(directory, "base.tar")
        _run("tar", "-C", str(tree), "--exclude=./dev/*", "--exclude=./proc/*", "-cf",
             str(packed), ".")  # fmt: skip
        container = _buildah("from", "scratch").strip()
        _buildah("add", container, str(packed), "/")
        _buildah("config", "--env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
        _buildah("commit", "--rm", container, name)


def _secrets(directory: Path) -> list[str]:
    """This machine's package settings and certificates, in the form that the Dockerfile expects."""
    options = []
    lines = _run("python3", "-m", "pip", "config", "list").splitlines()
    index = re.compile(r"^(?:global|:env:)\.(index-url|extra-index-url|trusted-host)='(.*)'$")
    options_of_pip = [match for line in lines if (match := index.match(line))]
    if options_of_pip:
        text = "\n".join(f"{match[1]} = {match[2]}" for match in options_of_pip)
        (directory / "pip.conf").write_text(f"[global]\n{text}\n")
        options += ["--secret", f"id=pip.conf,src={directory}/pip.conf"]
    if bundle := next((os.environ[name] for name in _CERTIFICATES if os.environ.get(name)), None):
        options += ["--secret", f"id=ca,src={bundle}", "--build-arg", "PIP_CERT=/run/secrets/ca"]
    return options


def _exists(name: str) -> bool:
    try:
        _buildah("inspect", "--type", "image", name)
    except subprocess.CalledProcessError:
        return False
    return True


@contextlib.contextmanager
def _mounted(name: str) -> Iterator[Path]:
    container = _buildah("from", "--pull-never", name).strip()
    try:
        yield Path(_buildah("mount", container).strip())
    finally:
        _buildah("rm", container)


def _size(tree: Path) -> int:
    return int(_run("du", "--summarize", "--bytes", str(tree)).split()[0])


def _buildah(*arguments: str) -> str:
    storage = ("--root", f"{CACHE}/storage", "--runroot", f"{CACHE}/run", "--storage-driver", "vfs")
    return _run("buildah", *storage, *arguments)


def _run(*command: str) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=900, check=True
        ).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(error.stdout[-4000:] + error.stderr[-4000:])
        raise
