"""Puts temporary files into memory if there is room.

When the disk is busy for seconds, for example with building images, Redis and the journal wait too:
the correct answer is then 503, and a measurement would measure the disk.
"""

import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108
_NEEDED_BYTES = 4 << 30


def work_in_memory() -> None:
    """For this process and its children. A TMPDIR that is set takes precedence."""
    if "TMPDIR" in os.environ or not _MEMORY.is_dir():
        return
    runs_programs = not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC
    if runs_programs and shutil.disk_usage(_MEMORY).free > _NEEDED_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)
