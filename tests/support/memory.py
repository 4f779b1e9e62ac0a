"""Where temporary files are: in memory, where there is room.

On a disk that hangs for two seconds, because somebody builds images on it, Redis and journal hang
too: the honest answer is 503, and a measurement is one of the disk.
"""

import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108
_NEEDED_BYTES = 4 << 30


def work_in_memory() -> None:
    """For this process and those that it starts. TMPDIR decides where it is set."""
    if "TMPDIR" in os.environ or not _MEMORY.is_dir():
        return
    runs_programs = not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC
    if runs_programs and shutil.disk_usage(_MEMORY).free > _NEEDED_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)
