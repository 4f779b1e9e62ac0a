"""Runs an image's command as a container engine does.

It has its own user, is process 1 of its own process namespace, and has a read-only tree with one
volume, no capabilities and no new privileges.
"""

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.support.deployment.image import Image

_NAMESPACES = ("unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child")
_START = """\
set -e
mount --make-rprivate /
mount --bind {tree} {tree}
mount --bind {data} {tree}/data
mount -t proc proc {tree}/proc
mount --rbind /dev {tree}/dev
mount -o remount,bind,ro {tree}
exec chroot {tree} setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs \\
    --bounding-set -all env -i {environ} {command}
"""


class Container:
    """A running image. ``environ`` is added to the image's environment; `log` is its output."""

    def __init__(self, image: Image, data: Path, environ: dict[str, str]) -> None:
        self._image = image
        self._data = data
        self._environ = [*image.config["Env"], *(f"{k}={v}" for k, v in environ.items())]
        self._log = data.parent / "container.log"
        self._outer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [*self._image.config["Entrypoint"], *self._image.config["Cmd"]]
        self._outer = self._popen(command)
        return self

    def __exit__(self, *_: object) -> None:
        if self._outer is not None:
            self._outer.kill()  # and with --kill-child all its processes
            self._outer.wait()

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def pid(self) -> int:
        """The pid of the container's process 1 on this machine."""
        assert self._outer is not None
        outer = self._outer.pid
        return int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])

    def status(self) -> dict[str, str]:
        """The kernel's status of process 1."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def stop(self, within: float) -> tuple[int, float]:
        """Send SIGTERM to process 1. Returns its exit status and how many seconds it took."""
        assert self._outer is not None
        began = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        status = self._outer.wait(within)
        return status, time.monotonic() - began

    def run(self, command: list[str]) -> int:
        """Run another command of the image, such as its health check."""
        return self._popen(command).wait(30)

    def _popen(self, command: list[str]) -> "subprocess.Popen[bytes]":
        user, group = self._image.config["User"].split(":")
        script = _START.format(
            tree=shlex.quote(str(self._image.tree)),
            data=shlex.quote(str(self._data)),
            user=user,
            group=group,
            environ=shlex.join(self._environ),
            command=shlex.join(command),
        )
        with self._log.open("ab") as log:
            return subprocess.Popen([*_NAMESPACES, "sh", "-c", script], stdout=log, stderr=log)
