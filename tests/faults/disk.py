"""A disk for the journal that can be filled: a small file system of its own, or a limit."""

import contextlib
import resource
import subprocess
import sys
from pathlib import Path

from tests.faults import wrapped
from tests.support.receiver import Receiver

_SIZE = 16 << 20

_MOUNT = f'mount -t tmpfs -o size={_SIZE} none "$0" && exec "$@"'


def can_mount() -> bool:
    """Whether this user may have file systems of its own; not in every container."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


class SmallFileSystem:
    """A tmpfs that only the receiver sees; it goes with the process."""

    has_reserve = True
    env: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.program = ("unshare", "-rm", "sh", "-c", _MOUNT, str(directory), *_APP)

    def fill(self, receiver: Receiver) -> None:
        with contextlib.suppress(OSError), self._filling(receiver).open("wb", buffering=0) as file:
            while file.write(bytes(1 << 12)):
                pass

    def empty(self, receiver: Receiver) -> None:
        self._filling(receiver).unlink()

    def _filling(self, receiver: Receiver) -> Path:
        assert receiver.process is not None
        seen = f"/proc/{receiver.process.pid}/root{self._directory}"
        return Path(seen) / "filling"


class LimitedFiles:
    """No file of the process grows beyond what the journal's largest has already."""

    has_reserve = False
    """A file that is given up makes no room here, so that a deletion can fail as well."""
    env = {wrapped.LOG_THROUGH_PIPE: "1"}  # noqa: RUF012

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.program = wrapped.PROGRAM

    def fill(self, receiver: Receiver) -> None:
        files = [self._directory / f"journal.db{suffix}" for suffix in ("", "-wal")]
        self._limit(receiver, max(file.stat().st_size for file in files if file.exists()))

    def empty(self, receiver: Receiver) -> None:
        self._limit(receiver, resource.RLIM_INFINITY)

    @staticmethod
    def _limit(receiver: Receiver, size: int) -> None:
        assert receiver.process is not None
        kind = resource.RLIMIT_FSIZE
        _, most = resource.prlimit(receiver.process.pid, kind)
        resource.prlimit(receiver.process.pid, kind, (size, most))


_APP = (sys.executable, "-m", "app")

Disk = SmallFileSystem | LimitedFiles

KINDS: tuple[type[Disk], ...] = (
    (SmallFileSystem, LimitedFiles)
    if Path("/proc/self/root").exists() and can_mount()
    else (LimitedFiles,)
)
