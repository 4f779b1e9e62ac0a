"""A failure that comes again and again is told once, and then with a count.

A Redis that refuses writes makes a line for each logout, all alike. The first is told at once; what
is alike and follows is counted, and every ten seconds one of them is told with the number of the
others, ``left_out``. The line of each token is
not concerned: it does not come by here.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from app.telemetry.logs.lines import error_of

PAUSE = 10.0
"""Seconds between two lines that are alike."""

# Lines of other failures than these are all told: what is alike has been found by then.
MOST_KINDS = 1000

# Each request has its own id. Of an exception the line has no words, which may quote a request.
_OWN = frozenset({"request_id", "exc_info"})


@dataclass(slots=True)
class _Kind:
    """Lines that are alike."""

    record: logging.LogRecord
    """The last one, to be told when no other comes."""
    told_at: float
    left_out: int = 0


class Repetitions(logging.Filter):
    """Filter of a handler: lets a warning or an error pass that is not alike to one just told.

    Alike: the same logger, level and event with the same fields, but for ``request_id``. Of a
    library's records the text with its arguments counts.
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
            if len(self._kinds) < MOST_KINDS:
                self._kinds[key] = _Kind(_bare(record), now)
            return True
        if now - kind.told_at < PAUSE:
            kind.left_out += 1
            kind.record.created = record.created
            return False
        if kind.left_out:
            record.left_out = kind.left_out
        kind.told_at, kind.left_out = now, 0
        return True

    def tell(self, *, all_of_them: bool = False) -> None:
        """Tell what was left out for `PAUSE`, and forget what comes no more."""
        now = self._monotonic()
        for key, kind in list(self._kinds.items()):
            if now - kind.told_at < PAUSE and not all_of_them:
                continue
            del self._kinds[key]
            if kind.left_out:
                kind.record.left_out = kind.left_out - 1 or None  # this line is one of them
                logging.getLogger(kind.record.name).handle(kind.record)

    async def keep_telling(self) -> None:
        """`tell` every second; at the end, all of it. Never returns."""
        try:
            while True:
                await asyncio.sleep(1)
                self.tell()
        finally:
            self.tell(all_of_them=True)


def _text(record: logging.LogRecord) -> str:
    if isinstance(record.msg, dict):
        text = str({name: value for name, value in record.msg.items() if name not in _OWN})
        error = error_of(record.msg.get("exc_info"))
    else:
        text, error = record.getMessage(), error_of(record.exc_info)
    if error is not None:  # another one, or from elsewhere, is another failure
        places = [at.tb_lineno for at in _tracebacks(error.__traceback__)]
        text += f"{type(error)}{places}"
    return text


def _tracebacks(at: TracebackType | None) -> Iterator[TracebackType]:
    while at is not None:
        yield at
        at = at.tb_next


def _bare(record: logging.LogRecord) -> logging.LogRecord:
    """A copy without the exception, whose frames would be kept alive."""
    copy = logging.makeLogRecord(record.__dict__)
    copy.exc_info = None
    if isinstance(copy.msg, dict):
        copy.msg = {name: value for name, value in copy.msg.items() if name != "exc_info"}
    return copy
