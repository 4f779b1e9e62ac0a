"""The log of `serve`: a line for each token, at the price of a line.

The standard way takes as long for it as half a signature: it looks for the caller's line, the
thread and the process, and spells the time anew.
"""

import contextlib
import functools
import logging
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
    """One write for each line, before its answer: who was told 200 is in the log."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.write(self.format(record))
        except (TypeError, ValueError):  # arguments that do not fit their text
            self.handleError(record)

    def write(self, line: str) -> None:
        """Write a line that has no end yet. Never fails: a full disk must cost no logout."""
        with contextlib.suppress(OSError, ValueError):
            # With its end in one call: lines of several processes stay whole, and standard error
            # hands each line on by itself.
            sys.stderr.write(line + "\n")
