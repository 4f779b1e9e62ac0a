"""Runs a real HAProxy in front of receivers, as an ingress controller does for its pods."""

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from tests.support.servers.redis_server import free_port

_COMMAND = ("haproxy", "-db", "-f")

# HAProxy keeps and shares connections as much as it can, which is the hardest case for a stop. It
# sends a request to another server when it cannot connect, but never sends a POST twice.
_CONFIG = """\
global
    stats socket {socket} mode 600 level admin
    log stdout format raw local0
    maxconn 2000
defaults
    mode http
    log global
    timeout connect 1s
    timeout client 60s
    timeout server 5s
    timeout http-keep-alive 60s
    retries 3
    option redispatch 1
    http-reuse always
frontend providers
    bind 127.0.0.1:{port}
    capture request header X-Request-Id len 64
    log-format "%[capture.req.hdr(0)] %s %ST %tsc"
    default_backend receivers
backend receivers
    balance roundrobin
    {check}
{servers}
"""


class Haproxy:
    """``servers`` are names, which get their addresses later. With ``health_checks`` it polls
    `/readyz` every second, and uses nothing else."""

    def __init__(self, directory: Path, servers: list[str], *, health_checks: bool = False) -> None:
        if not shutil.which("haproxy"):
            pytest.skip("not installed: haproxy (.ci/run installs it)")
        directory.mkdir(parents=True, exist_ok=True)
        self._socket = directory / "socket"
        self._log = directory / "log"
        self._config = directory / "haproxy.cfg"
        self.polls = health_checks
        self.url = f"http://127.0.0.1:{(port := free_port())}/backchannel-logout"
        options = "check inter 1s fall 2 rise 1" if health_checks else ""
        self._config.write_text(
            _CONFIG.format(
                socket=self._socket,
                port=port,
                check="option httpchk GET /readyz" if health_checks else "",
                servers="\n".join(
                    f"    server {s} 127.0.0.1:1 disabled {options}" for s in servers
                ),
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            command = [*_COMMAND, str(self._config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._socket.exists():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def add(self, server: str, port: int, admin_port: int) -> None:
        """Send requests to the server from now on, with ``health_checks`` once it is ready."""
        self._command(f"set server receivers/{server} addr 127.0.0.1 port {port}")
        if self.polls:
            self._command(f"set server receivers/{server} check-addr 127.0.0.1")
            self._command(f"set server receivers/{server} check-port {admin_port}")
            self._command(f"set server receivers/{server} health down")
        self._command(f"set server receivers/{server} state ready")

    def remove(self, server: str) -> None:
        """Send no new requests to the server. Those in flight go on."""
        self._command(f"set server receivers/{server} state maint")

    def served_by(self) -> dict[str, tuple[str, int]]:
        """The last server and the client's status of each request, by its id."""
        lines = re.findall(r"^(\S+) (\S+) (-?\d+) \S+$", self._log.read_text(), re.MULTILINE)
        return {name: (server, int(status)) for name, server, status in lines}

    def _command(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(5)
            admin.connect(str(self._socket))
            admin.sendall(command.encode() + b"\n")
            answer = admin.recv(4096).decode().strip()
        assert not answer or "changed" in answer or "no need" in answer, (command, answer)
