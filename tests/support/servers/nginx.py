"""Runs a real nginx with the given sites."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

import pytest

from tests.support.receiver import wait_for
from tests.support.servers.redis_server import free_port

_CONFIG = """\
daemon off;
{user}
error_log {directory}/error.log;
pid {directory}/pid;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {sites}
}}
"""

_INGRESS = """\
map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
upstream listener {{ server {upstream}; keepalive 320; }}
server {{
    listen 127.0.0.1:{port};
    client_max_body_size 64k;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    proxy_next_upstream off;
    location / {{ proxy_pass http://listener; }}
}}
"""


class Nginx:
    """``sites`` goes into the ``http`` block and listens on ``port``."""

    def __init__(self, directory: Path, sites: str, port: int) -> None:
        if not shutil.which("nginx"):
            pytest.skip("not installed: nginx (.ci/run installs it)")
        directory.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{port}"
        self._directory = directory
        (directory / "nginx.conf").write_text(
            _CONFIG.format(
                directory=directory,
                sites=sites,
                # By default its workers run as nobody, without write permission here.
                user="user root;" if os.geteuid() == 0 else "",
            )
        )
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        directory = str(self._directory)
        with (self._directory / "log").open("wb") as log:
            command = ["nginx", "-p", directory, "-e", f"{directory}/error.log"]
            self._process = subprocess.Popen(
                [*command, "-c", f"{directory}/nginx.conf"], stdout=log, stderr=log
            )
        wait_for((self._directory / "pid").exists, "nginx runs")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)


def ingress(directory: Path, upstream: str) -> Nginx:
    """nginx in front of a listener, configured as ingress controllers do: it forwards upgrades and
    shares its connections to the upstream among clients."""
    port = free_port()
    sites = _INGRESS.format(upstream=upstream.removeprefix("http://"), port=port)
    return Nginx(directory, sites, port)
