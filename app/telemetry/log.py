"""The log of `serve`: a line for each token, at the price of a line.

The standard way takes as long for it as half a signature: it looks for the caller's line, the
thread and the process, and spells the time anew.
"""

import contextlib
import functools
import logging
import select
import sys
import time
from collections.abc import Callable

# What our format does not show need not be found out ("Optimization" in Python's Logging HOWTO).
_NOT_SHOWN = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")


def log_to_stderr() -> None:
    """Set up the log of this process."""
    global _tell  # noqa: PLW0603  like the logging that it stands beside: one for the process
    handler = LineHandler()
    formatter = LineFormatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(formatter)
    _tell = functools.partial(_tell_past_logging, handler, formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in _NOT_SHOWN:
        setattr(logging, name, None)
    # The libraries tell of each request, with its URL; we tell of each token.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its warnings are of broken requests: anybody could fill the log with them.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)


def tell(log: logging.Logger, level: int, message: str) -> None:
    """``log.log``, for the line that each token has; ``level`` is INFO or higher."""
    _tell(log, level, message)


def _tell_to_logging(log: logging.Logger, level: int, message: str) -> None:
    log.log(level, "%s", message)


_tell: Callable[[logging.Logger, int, str], None] = _tell_to_logging


def _tell_past_logging(
    handler: "LineHandler",
    formatter: "LineFormatter",
    log: logging.Logger,
    level: int,
    message: str,
) -> None:
    """The same line without a record, which nobody else would see and which costs as much again."""
    name = logging.getLevelName(level)
    handler.write(formatter.line(time.time(), name, log.name, message))


class LineFormatter(logging.Formatter):
    """What the standard one says of the same format, with the second spelled once."""

    _second = -1
    _spelled = ""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info or record.stack_info:
            return super().format(record)
        return self.line(record.created, record.levelname, record.name, record.getMessage())

    def line(self, created: float, level: str, name: str, message: str) -> str:
        """The line, without its end. ``created`` is epoch seconds."""
        second = int(created)
        if second != self._second:
            self._spelled = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._second = second
        ms = int((created - second) * 1000)
        return f"{self._spelled},{ms:03d} {level} {name} {message}"


class LineHandler(logging.Handler):
    """Hands each line to `LINES`."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(self.format(record))
        except (TypeError, ValueError):  # arguments that do not fit their text
            self.handleError(record)

    def write(self, line: str) -> None:
        """Write a line that has no end yet. Never fails: a full disk must cost no logout."""
        LINES.write(line)


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
            own = len(line.encode("utf-8", "replace")) + 1
            if size + own > self._most and together:
                self.write("\n".join(together))
                together, size = [], 0
            together.append(line)
            size += own
        if together:
            self.write("\n".join(together))


LINES = Lines()
"""Those of this process."""
