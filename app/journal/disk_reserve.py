"""Room on the disk that is given back when it is full: a deletion, too, must first be written."""

import contextlib
from pathlib import Path

from app.journal.sqlite import LARGEST_WAL
from app.log import new_log

log = new_log(__name__)

# The log up to its largest, and as much again for the file that it goes into; twice.
_BYTES = 4 * LARGEST_WAL


class Reserve:
    """A file of zeros beside the journal."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keep(self) -> None:
        """Have it, if there is room."""
        with contextlib.suppress(OSError):
            if not self.path.exists() or self.path.stat().st_size < _BYTES:
                self.path.write_bytes(bytes(_BYTES))

    def give_up(self) -> None:
        self.path.unlink(missing_ok=True)
        log.warning("journal", outcome="full", action="reserve_given_up")
