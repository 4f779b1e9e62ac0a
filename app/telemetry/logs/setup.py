"""The log of a process: events with fields, a line for each, as JSON or for a terminal.

    set_up_log      once for a process; again when its settings are known
    JsonLine        past all of this, for the line that each token has
    lines           what a line looks like, and what may be in it
    output          where they go, and when
    repetitions     a failure that comes again and again, told with a count

The standard way of a record takes as long as half a signature: it looks for the caller's line, the
thread and the process. Nobody sees those here, so they are not found out.
"""

import logging
import sys
import time
from json.encoder import encode_basestring_ascii as quoted

from app.config.model import Settings
from app.telemetry.logs.lines import formatter, timestamp
from app.telemetry.logs.output import LINES
from app.telemetry.logs.repetitions import Repetitions

# What our format does not show need not be found out ("Optimization" in Python's Logging HOWTO).
_NOT_SHOWN = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")

repetitions = Repetitions()
"""Those of this process."""

_json_line: "JsonLine | None" = None


def set_up_log(settings: Settings | None = None, *, least: str | None = None) -> None:
    """Send the log of this process to standard error, as the settings say.

    ``least``, for commands, is the lowest level that is logged, in place of ``log_level``.
    """
    global _json_line  # noqa: PLW0603  like the logging that it stands beside: one for the process
    wanted = settings.log_format if settings else "auto"
    level = getattr(logging, (least or (settings.log_level if settings else "info")).upper())
    as_json = wanted == "json" or (wanted == "auto" and not sys.stderr.isatty())
    handler = LineHandler()
    handler.setFormatter(formatter(as_json=as_json, colors=sys.stderr.isatty()))
    handler.addFilter(repetitions)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    _json_line = JsonLine(handler, level) if as_json else None
    for name in _NOT_SHOWN:
        setattr(logging, name, None)
    # The libraries tell of each request, with its URL; we tell of each token.
    for name in ("httpx", "httpcore", "opentelemetry"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its warnings are of broken requests: anybody could fill the log with them.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)


def json_line() -> "JsonLine | None":
    """Where the line of a token goes by the short way; None where the log is not JSON, or is not
    ours: then it goes the way of every other."""
    return _json_line


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


class JsonLine:
    """A JSON line without a record, which costs as much as all the rest of it: the same text as the
    long way's, as a test holds."""

    def __init__(self, handler: LineHandler, level: int) -> None:
        self._write = handler.write
        self._level = level

    def tell(self, level: int, logger: str, event: str, fields: str) -> None:
        """``fields`` is JSON: members without braces, with a comma in front."""
        if level >= self._level:
            self._write(
                f'{{"timestamp":"{timestamp(time.time())}","level":"{_LEVELS[level]}",'
                f'"logger":"{logger}","event":"{event}"{fields}}}'
            )


_LEVELS = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}

__all__ = ["JsonLine", "LineHandler", "json_line", "quoted", "repetitions", "set_up_log"]
