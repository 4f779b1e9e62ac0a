"""Ory Kratos, built once from its Go module into the user's cache.

``python -m tests.interop.kratos_dist`` (which `make test-all` calls) downloads the module from
Go's proxy, checked against its checksum database, and builds it: five minutes and a gigabyte, once.
If that is impossible, it prints the reason, and the tests are skipped with it. The files are in
``$XDG_CACHE_HOME``, outside the repository; a second call does nothing.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.interop.keycloak_dist import cache

MODULE, RELEASE = "github.com/ory/kratos", "v1.3.1"


def program() -> Path:
    """The server."""
    return cache() / f"kratos-{RELEASE}"


def missing() -> str | None:
    """Why Kratos cannot be started here; None if it can."""
    if program().exists():
        return None
    if _out_of_reach().exists():
        return "registry out of reach: Go"
    if not shutil.which("go") or not shutil.which("gcc"):
        return "Go or gcc is missing, to build Kratos with"
    return "Kratos is not built; make test-all builds it"


def install() -> None:
    """Put it into the cache. Raises `SystemExit` if it does not compile."""
    go = shutil.which("go")
    if go is None or shutil.which("gcc") is None:
        return
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "kratos.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program().exists() and (module := _download(go)):
            _build(go, module)


def _out_of_reach() -> Path:
    return cache() / "go-out-of-reach"


def _download(go: str) -> Path | None:
    """The module's folder; None if the registry is unreachable."""
    _out_of_reach().unlink(missing_ok=True)
    done = subprocess.run(
        [go, "mod", "download", "-json", f"{MODULE}@{RELEASE}"],
        cwd=cache(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        print("Go's module proxy is out of reach; the tests with Kratos will be skipped.")
        _out_of_reach().touch()
        return None
    return Path(json.loads(done.stdout)["Dir"])


def _build(go: str, module: Path) -> None:
    """Build in a copy: `go install` refuses modules with `replace`, which this one has."""
    print(f"Building Kratos {RELEASE}; this takes five minutes.", flush=True)
    source = cache() / "kratos-source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(module, source)
    # Go's cache is read-only; the copy is not.
    subprocess.run(["chmod", "-R", "u+w", source], check=True)  # noqa: S607
    built = subprocess.run(
        [go, "build", "-tags", "sqlite,json1", "-trimpath", "-ldflags=-s -w",
         "-o", f"{program()}.new", "."],
        cwd=source, env=os.environ | {"CGO_ENABLED": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    shutil.rmtree(source, ignore_errors=True)
    if built.returncode:
        sys.exit(built.stdout + built.stderr)
    Path(f"{program()}.new").rename(program())


if __name__ == "__main__":
    install()
    print(missing() or f"Kratos {RELEASE} is in {cache()}")
