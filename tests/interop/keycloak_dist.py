"""Keycloak's distribution, downloaded once from Maven's registry into the user's cache.

``python -m tests.interop.keycloak_dist`` (which `make test-all` calls) downloads and unpacks it,
and prepares what each start would repeat: the optimized program, and a database with its tables
and an administrator. If that is impossible, it prints the reason, and the tests are skipped with
it. The files are in ``$XDG_CACHE_HOME``, outside the repository; a second call does nothing.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

RELEASE = "26.7.3"
SHA256 = "27a6535553c3cdcd083872ba40629efafb3475e3b758e0c6f691395561dd0f1f"
OLDEST_JAVA = 17
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"

ADMIN = ("tests", "tests-secret")
"""The client id and secret of the prepared database's administrator."""

ENVIRONMENT = {
    "JAVA_OPTS_KC_HEAP": "-Xms128m -Xmx512m",
    # A short-lived server starts faster with only the quick compiler.
    "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
    "KC_BOOTSTRAP_ADMIN_CLIENT_ID": ADMIN[0],
    "KC_BOOTSTRAP_ADMIN_CLIENT_SECRET": ADMIN[1],
}


def cache() -> Path:
    """The cache directory, by the XDG base directory specification."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "backchannel-logout-receiver"


def home() -> Path:
    """The unpacked distribution."""
    return cache() / f"keycloak-{RELEASE}"


DATABASE = "keycloak.mv.db"


def prepared_database() -> Path:
    """The prepared database, which each server copies."""
    return home() / "prepared" / DATABASE


def missing() -> str | None:
    """Why Keycloak cannot be started here; None if it can."""
    java = shutil.which("java")
    version = java and subprocess.check_output(
        [java, "-version"], text=True, stderr=subprocess.STDOUT
    )
    if not version or int(re.findall(r"\d+", version)[0]) < OLDEST_JAVA:
        return f"Java >= {OLDEST_JAVA} is missing"
    if prepared_database().exists():
        return None
    if _out_of_reach().exists():
        return "registry out of reach: Maven"
    if not shutil.which("mvn"):
        return "Maven is missing"
    return "Keycloak is not downloaded; make test-all downloads it"


def command(directory: Path) -> list[str]:
    """Starts the server with the database in ``directory``; it logs its free loopback port."""
    return [
        str(home() / "bin" / "kc.sh"), "start", "--optimized", "--cache=local",
        "--http-enabled=true", "--hostname-strict=false",
        "--http-host=127.0.0.1", "--http-port=0",
        f"--db-url=jdbc:h2:file:{directory}/keycloak;NON_KEYWORDS=VALUE",
    ]  # fmt: skip


def install() -> None:
    """Put it into the cache. Raises `SystemExit` for an unexpected download."""
    maven = shutil.which("mvn")
    if shutil.which("java") is None or maven is None:
        return
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not prepared_database().exists() and _download(maven):
            _unpack()
            _prepare()


def _out_of_reach() -> Path:
    return cache() / "maven-out-of-reach"


def _archive() -> Path:
    return cache() / f"keycloak-quarkus-dist-{RELEASE}.zip"


def _download(maven: str) -> bool:
    """Whether the registry could be reached."""
    _out_of_reach().unlink(missing_ok=True)
    print(f"Downloading Keycloak {RELEASE} into {cache()}; this takes a minute or two.")
    done = subprocess.run(
        [
            maven, "-B", "-ntp", "-U", PLUGIN + ":copy",
            f"-Dartifact=org.keycloak:keycloak-quarkus-dist:{RELEASE}:zip",
            f"-DoutputDirectory={cache()}",
        ],
        cwd=cache(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode and re.search(r"Could not transfer|Unknown host|timed out", done.stdout):
        print("The registry is out of reach; the tests with Keycloak will be skipped.")
        _out_of_reach().touch()
        return False
    if done.returncode:
        sys.exit(done.stdout)
    with _archive().open("rb") as archive:
        digest = hashlib.file_digest(archive, "sha256").hexdigest()
    if digest != SHA256:
        _archive().unlink()
        sys.exit(f"Keycloak {RELEASE}: the download has SHA-256 {digest}, not {SHA256}")
    return True


def _unpack() -> None:
    shutil.rmtree(home(), ignore_errors=True)
    with zipfile.ZipFile(_archive()) as archive:
        archive.extractall(cache())
    for script in (home() / "bin").glob("*.sh"):
        script.chmod(0o755)
    _archive().unlink()


def _prepare() -> None:
    """Do the work of each start once: compile the configuration, fill an empty database."""
    print(f"Preparing Keycloak {RELEASE}; this takes a minute.")
    environment = os.environ | ENVIRONMENT
    build = [home() / "bin" / "kc.sh", "build", "--db=dev-file", "--health-enabled=false"]
    built = subprocess.run(build, env=environment, capture_output=True, text=True, check=False)
    if built.returncode:
        sys.exit(built.stdout + built.stderr)
    filling = home() / "filling"
    filling.mkdir()
    log = ""
    with subprocess.Popen(
        command(filling), env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        for line in server.stdout:
            log += line
            if "Listening on: http" in line:
                # It writes the database when it stops, which closes its output.
                server.terminate()
    if not (filling / DATABASE).exists() or "Listening on: http" not in log:
        sys.exit(log)
    filling.rename(prepared_database().parent)


if __name__ == "__main__":
    install()
    print(missing() or f"Keycloak {RELEASE} is in {cache()}")
