"""What a copy says about itself: which Redis it belongs to, and since when it is complete."""

import json
import os
from contextlib import suppress
from pathlib import Path

from app.journal.segment_log import give_to_owner

_NAME = "state.json"


class CopyState:
    """``directory`` None keeps it in memory. Times are epoch seconds."""

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / _NAME if directory is not None else None
        self.generation: str | None = None
        """See `Generation`."""
        self.since = 0.0
        """Everything that was acknowledged after it is in the copy."""

    def open(self, now: float, oldest: float | None) -> None:
        """Read it. ``oldest`` is when the copy's oldest segment was written, if there is one."""
        self.since = now if oldest is None else oldest
        if self._path is None:
            return
        with suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads(self._path.read_text("utf-8"))
            generation, since = found["generation"], float(found["since"])
            self.generation = generation if isinstance(generation, str) else None
            if oldest is not None:
                self.since = since
        self._write()

    def belongs_to(self, generation: str | None) -> None:
        """Keep the value of the Redis that is written to."""
        self.generation = generation
        self._write()

    def dropped(self, until: float) -> None:
        """What was acknowledged until then has left the copy."""
        if until > self.since:
            self.since = until
            self._write()

    @staticmethod
    def remove(directory: Path) -> None:
        """Remove that of a copy which was taken over."""
        (directory / _NAME).unlink(missing_ok=True)

    def _write(self) -> None:
        """Replace the file at once. A full disk costs only what the next start would know."""
        if self._path is None:
            return
        text = json.dumps({"generation": self.generation, "since": self.since})
        temporary = self._path.with_suffix(".new")
        with suppress(OSError):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            give_to_owner(temporary)
            temporary.replace(self._path)
