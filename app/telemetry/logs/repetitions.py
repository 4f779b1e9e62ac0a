"""Logs a repeated failure once, and then with a count.

A Redis that refuses writes causes the same line for every logout. The first one is logged at once.
Equal lines that follow are counted, and every ten seconds one of them is logged with the number of
the others, ``left_out``. The line of each token does not pass this filter.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from app.telemetry.logs.lines import error_of

PAUSE = 10.0
"""Seconds between two equal lines."""

# Bounds the memory; further kinds are all logged.
MAX_KINDS = 1000

# These differ between lines that are otherwise equal.
_IGNORED = frozenset({"request_id", "exc_info"})


@dataclass(slots=True)
class _Kind:
    """Lines that are equal."""

    record: logging.LogRecord
    """The last one, logged when no other follows."""
    logged_at: float
    left_out: int = 0


class Repetitions(logging.Filter):
    """A filter that lets a warning or an error pass unless an equal one was just logged.

    Equal lines have the same logger, level, event and fields, except ``request_id``; records of
    libraries have the same message with its arguments.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._kinds: dict[tuple[str, int, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or hasattr(record, "left_out"):
            return True
        key = (record.name, record.levelno, _text(record))
        now, kind = self._monotonic(), self._kinds.get(key)
        if kind is None:
            if len(self._kinds) < MAX_KINDS:
                self._kinds[key] = _Kind(_bare(record), now)
            return True
        if now - kind.logged_at < PAUSE:
            kind.left_out += 1
            kind.record.created = record.created
            return False
        if kind.left_out:
            record.left_out = kind.left_out
        kind.logged_at, kind.left_out = now, 0
        return True

    def report(self, *, final: bool = False) -> None:
        """Log what was left out for `PAUSE`, and forget kinds that have stopped. ``final`` logs
        all of them."""
        now = self._monotonic()
        for key, kind in list(self._kinds.items()):
            if now - kind.logged_at < PAUSE and not final:
                continue
            del self._kinds[key]
            if kind.left_out:
                kind.record.left_out = kind.left_out - 1 or None  # this line is one of them
                logging.getLogger(kind.record.name).handle(kind.record)

    async def keep_reporting(self) -> None:
        """`report` every second, and everything at the end. Never returns."""
        try:
            while True:
                await asyncio.sleep(1)
                self.report()
        finally:
            self.report(final=True)


def _text(record: logging.LogRecord) -> str:
    if isinstance(record.msg, dict):
        text = str({name: value for name, value in record.msg.items() if name not in _IGNORED})
        error = error_of(record.msg.get("exc_info"))
    else:
        text, error = record.getMessage(), error_of(record.exc_info)
    if error is not None:  # another type, or another place, is another failure
        places = [at.tb_lineno for at in _tracebacks(error.__traceback__)]
        text += f"{type(error)}{places}"
    return text


def _tracebacks(at: TracebackType | None) -> Iterator[TracebackType]:
    while at is not None:
        yield at
        at = at.tb_next


def _bare(record: logging.LogRecord) -> logging.LogRecord:
    """A copy without the exception, which would keep its frames alive."""
    copy = logging.makeLogRecord(record.__dict__)
    copy.exc_info = None
    if isinstance(copy.msg, dict):
        copy.msg = {name: value for name, value in copy.msg.items() if name != "exc_info"}
    return copy
