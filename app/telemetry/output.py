"""Where the lines of the log go: standard error, in as few calls as there are answers."""

import contextlib
import select
import sys


class Lines:
    """Standard error: one write for each line, before its answer: who was told 200 is in the log.

    Where many answers go out together, one for all of their lines, or a few: `hold`, `release`.
    """

    # What is longer may be mixed with what other processes write into the same pipe.
    _most = select.PIPE_BUF

    def __init__(self) -> None:
        self._held: list[str] | None = None

    def write(self, line: str) -> None:
        """Write a line that has no end yet. Never fails."""
        if self._held is not None:
            self._held.append(line)
            return
        with contextlib.suppress(OSError, ValueError):
            # With its end in one call: standard error hands each line on by itself.
            sys.stderr.write(line + "\n")

    def hold(self) -> None:
        """Gather what is written from here on."""
        self._held = []

    def release(self) -> None:
        """Write what was gathered, in its order."""
        held, self._held = self._held or [], None
        together: list[str] = []
        size = 0
        for line in held:
            own = 1 + (len(line) if line.isascii() else len(line.encode("utf-8", "replace")))
            if size + own > self._most and together:
                self.write("\n".join(together))
                together, size = [], 0
            together.append(line)
            size += own
        if together:
            self.write("\n".join(together))


LINES = Lines()
"""Those of this process."""
