"""Runs a test in a network of its own, with fixed ports and the manifests' host names.

``python -m tests.support.deployment.private_network HOSTS COMMAND...``, in new namespaces, starts
the loopback interface, mounts the file HOSTS over /etc/hosts and executes the command. `run_alone`
calls it.
"""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child")


def run_alone(directory: Path, hosts: dict[str, str], *module: str) -> str:
    """Run ``python -m <module>`` with ``hosts`` (name to address). Returns its output.

    Fails with the output if the exit status is not 0. Skips the test where this cannot run.
    """
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a network of its own needs root and unshare (.ci/run has both)")
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in hosts.items())]
    (directory / "hosts").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [*_NAMESPACES, sys.executable, "-m", __name__, str(directory / "hosts"),
         sys.executable, "-m", *module],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def main() -> None:
    hosts, *command = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
    mount = shutil.which("mount") or "mount"
    subprocess.run([mount, "--bind", hosts, "/etc/hosts"], check=True)
    os.execv(command[0], command)  # noqa: S606  no shell is needed


if __name__ == "__main__":
    main()
