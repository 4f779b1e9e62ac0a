"""A disk for the journal that a test can fill: a small file system, or a limit on file sizes."""

import contextlib
import resource
import subprocess
import sys
from pathlib import Path

from app.journal.journal import directory_of
from tests.faults import wrapped
from tests.support.receiver import Receiver

_SIZE = 16 << 20

_MOUNT = f'mount -t tmpfs -o size={_SIZE} none "$0" && exec "$@"'


def can_mount() -> bool:
    """Whether this user may mount file systems; some containers do not allow it."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


class SmallFileSystem:
    """A tmpfs that only the receiver sees; it disappears with the process."""

    env: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.program = ("unshare", "-rm", "sh", "-c", _MOUNT, str(directory), *_APP)

    def fill(self, receiver: Receiver) -> None:
        assert receiver.process is not None
        seen = Path(f"/proc/{receiver.process.pid}/root{self._directory}")
        with contextlib.suppress(OSError), (seen / "filling").open("wb", buffering=0) as file:
            while file.write(bytes(1 << 12)):
                pass


class LimitedFiles:
    """No file of the process may grow larger than the journal's largest file is now."""

    env = {wrapped.LOG_THROUGH_PIPE: "1"}  # noqa: RUF012

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        self.program = wrapped.PROGRAM

    def fill(self, receiver: Receiver) -> None:
        files = directory_of(self._directory / "journal.db").iterdir()
        size = max(file.stat().st_size for file in files)
        assert receiver.process is not None
        kind = resource.RLIMIT_FSIZE
        _, hard = resource.prlimit(receiver.process.pid, kind)
        resource.prlimit(receiver.process.pid, kind, (size, hard))


_APP = (sys.executable, "-m", "app")

Disk = SmallFileSystem | LimitedFiles

KINDS: tuple[type[Disk], ...] = (
    (SmallFileSystem, LimitedFiles)
    if Path("/proc/self/root").exists() and can_mount()
    else (LimitedFiles,)
)
