"""The members of the sentinel overlay as processes: configured by its own script and files.

For a network of its own (`tests.support.deployment.private_network`), where their names are
addresses on loopback and every one of them has the same ports.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import redis

from app.devtools.embedded_redis import find_server
from tests.support.deployment.manifests import ROOT, find
from tests.support.receiver import wait_for

OVERLAY = ROOT / "k8s/overlays/sentinel"
DOMAIN = "valkey.backchannel-logout.svc"
SERVICE = "logouts"
NAMES = [f"valkey-{n}" for n in range(3)]
ADDRESSES = {f"{name}.{DOMAIN} {name}.valkey": f"127.0.0.1{n}" for n, name in enumerate(NAMES, 1)}

# A replacement for the image's valkey-cli, with the commands that `configure` uses.
_CLI = """\
#!{python}
import os, sys
import redis
words = sys.argv[1:]
host, port = words[words.index("-h") + 1], int(words[words.index("-p") + 1])
client = redis.Redis(host, port, username=words[words.index("--user") + 1], protocol=2,
                     password=os.environ["VALKEYCLI_AUTH"], decode_responses=True,
                     socket_timeout=2, driver_info=None)
try:
    print("\\n".join(client.execute_command(*words[words.index("--raw") + 1:])))
except redis.RedisError as error:
    sys.exit(str(error))
"""


class Member:
    """One pod: its volume and, while it runs, a Valkey and a Sentinel."""

    def __init__(self, directory: Path, number: int, auth: Path) -> None:
        self.name, self.host = NAMES[number], f"127.0.0.1{number + 1}"
        self._auth = auth
        self._data = directory / self.name
        self._config = directory / f"{self.name}-config"
        self._programs = directory / "programs"
        for path in (self._data, self._config, self._programs):
            path.mkdir(exist_ok=True)
        (cli := self._programs / "valkey-cli").write_text(_CLI.format(python=sys.executable))
        cli.chmod(0o755)
        (configured,) = find("sentinel", "ConfigMap", "valkey-config")
        for name, text in configured["data"].items():
            here = text.replace("dir /data", f"dir {self._data}")
            (self._config / name).write_text(here.replace("/etc/valkey/auth", str(auth)))
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> str:
        """Starts the pod's init container, then both servers. Returns the container's output."""
        said = subprocess.run(
            ["/bin/sh", str(self._config / "configure")],
            env={"POD": self.name, "DOMAIN": DOMAIN, "DATA": str(self._data),
                 "CONFIG": str(self._config), "AUTH": str(self._auth),
                 "PATH": f"{self._programs}:{os.environ['PATH']}"},
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
        for name, options in (("valkey", []), ("sentinel", ["--sentinel"])):
            command = [find_server(), str(self._data / f"{name}.conf"), *options]
            with (self._data / f"{name}.log").open("ab") as log:
                self._processes.append(
                    subprocess.Popen([*command, "--bind", self.host], stdout=log, stderr=log)
                )
        return said

    def kill(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._processes = []

    def client(self, port: int = 6379, user: str = "admin") -> redis.Redis:
        password = self._password(user)
        return redis.Redis(
            self.host, port, username=user, password=password, decode_responses=True, protocol=2
        )

    def _password(self, user: str) -> str:
        files = "".join(
            (self._auth / name).read_text() for name in ("users.acl", "sentinel-users.acl")
        )
        return next(
            line.split(">")[1].split()[0]
            for line in files.splitlines()
            if line.startswith(f"user {user} ")
        )

    def role(self) -> str | None:
        """``master``, or ``slave`` once it is in sync with its primary; otherwise None."""
        try:
            with self.client() as client:
                found = client.role()
                return found[0] if found[0] == "master" or found[3] == "connected" else None
        except redis.RedisError:
            return None

    def knows_all(self) -> bool:
        """Whether its Sentinel knows both others and both replicas."""
        try:
            with self.client(26379, "peer") as client:
                words = client.execute_command("SENTINEL", "MASTER", SERVICE)
        except redis.RedisError:
            return False
        told = words if isinstance(words, dict) else dict(zip(words[::2], words[1::2], strict=True))
        return (str(told["num-slaves"]), str(told["num-other-sentinels"])) == ("2", "2")


def until_settled(members: list[Member]) -> Member:
    """Waits for one primary with two replicas; returns the primary."""

    def is_settled() -> bool:
        return sorted(str(member.role()) for member in members) == ["master", "slave", "slave"]

    wait_for(is_settled, "one primary, two replicas in step")
    wait_for(lambda: all(member.knows_all() for member in members), "the Sentinels know all")
    return next(member for member in members if member.role() == "master")
