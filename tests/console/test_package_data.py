"""The wheel, and so the image, contains the console's templates and static files."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.receiver import ROOT

pytestmark = pytest.mark.slow


def test_the_wheel_has_every_template_and_file(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    folder = ROOT / "app/console"
    needed = [*folder.glob("templates/*"), *folder.glob("static/*")]
    assert len(needed) > 10
    assert {str(one.relative_to(ROOT)) for one in needed} <= packed
