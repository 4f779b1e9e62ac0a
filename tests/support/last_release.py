"""The code of the last release, unchanged, to run as a process.

    git archive RELEASE app clients/python/backchannel_logout | xz -9e > last_release.tar.xz

It is kept here because a clone in CI may have no history. Replace it with each release.
"""

import os
import shutil
from pathlib import Path

ARCHIVE = Path(__file__).with_suffix(".tar.xz")


def unpack(directory: Path) -> dict[str, str]:
    """Unpack it; returns the environment in which ``python -m app`` is that release."""
    shutil.unpack_archive(ARCHIVE, directory, filter="data")
    parts = (directory, directory / "clients/python")
    return {"PYTHONPATH": os.pathsep.join(map(str, parts))}
