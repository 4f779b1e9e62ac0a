"""Sends the log of the process to standard error: one line per event, as JSON or for a terminal.

Logging's own record looks up the caller's line, the thread and the process, which costs as much as
half a signature. Nothing here shows them, so they are switched off. The line that each logout token
has is written without a record, by `JsonLine`.
"""

import logging
import sys
from collections.abc import Callable

from app.config.model import Settings
from app.telemetry.logs.lines import JsonLine, formatter
from app.telemetry.logs.output import LINES
from app.telemetry.logs.repetitions import Repetitions

# Not part of our format ("Optimization" in Python's Logging HOWTO).
_UNUSED = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")

repetitions = Repetitions()
"""Those of this process."""

_json_line: JsonLine | None = None


def set_up_log(settings: Settings, *, min_level: str | None = None) -> None:
    """Set up logging, once for the process. ``min_level`` replaces ``log_level`` for commands."""
    global _json_line  # noqa: PLW0603  one per process, like logging itself
    level = getattr(logging, (min_level or settings.log_level).upper())
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    handler = LineHandler(LINES.write)
    handler.setFormatter(formatter(as_json=as_json, colors=sys.stderr.isatty()))
    handler.addFilter(repetitions)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    _json_line = JsonLine(LINES.write, level) if as_json else None
    for name in _UNUSED:
        setattr(logging, name, None)
    # At INFO these libraries log every request with its URL.
    for name in ("httpx", "httpcore", "opentelemetry"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its warnings are about broken requests, with which anyone could fill the log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)


def json_line() -> JsonLine | None:
    """The writer for the line of a token; None where the log is not JSON or not set up here."""
    return _json_line


class LineHandler(logging.Handler):
    """Formats each record, and passes the line to ``write``."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(self.format(record))
        except (TypeError, ValueError):  # arguments that do not fit the message
            self.handleError(record)
