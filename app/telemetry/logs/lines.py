"""Renders a line of the log, and keeps secrets out of it.

    {"timestamp": ..., "level": ..., "logger": ..., "event": "keys", "outcome": "failed", ...}

Our own events and the messages of libraries have the same format. Two safeguards against secrets
that are logged by mistake: an exception is logged with its type and where it was raised, never with
its message, which may quote the request; and anything that looks like a token, or like a password
in a URL, is masked.
"""

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from structlog.dev import ConsoleRenderer
from structlog.processors import JSONRenderer
from structlog.stdlib import ProcessorFormatter

from app.formatting import escaped

# Deeper than any of our own stacks; the innermost frames are kept.
MAX_FRAMES = 30

# Libraries nest three or four exceptions.
MAX_CAUSES = 8


def formatter(*, as_json: bool, colors: bool = False) -> ProcessorFormatter:
    """Renders every record of this process. ``colors`` is for a terminal."""
    processors: list[Any] = [_line, _without_secrets]
    if as_json:
        processors.append(JSONRenderer(separators=(",", ":")))
    else:
        processors += [_for_terminal, ConsoleRenderer(colors=colors)]
    return ProcessorFormatter(processors=processors)


class _LastSecond:
    """The formatted second of the previous line, which most lines share."""

    at = -1
    text = ""


def timestamp(at: float) -> str:
    """ISO 8601 in UTC with milliseconds. ``at`` is epoch seconds."""
    second = int(at)
    if second != _LastSecond.at:
        _LastSecond.text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _LastSecond.at = second
    return f"{_LastSecond.text}.{int((at - second) * 1000):03d}Z"


class JsonLine:
    """Writes a JSON line without a logging record, in the format of all other lines."""

    def __init__(self, write: Callable[[str], None], min_level: int) -> None:
        """``write`` takes a line without its newline."""
        self._write = write
        self._min_level = min_level

    def write(self, level: int, logger: str, event: str, members: str) -> None:
        """``members`` are JSON members without braces, each with a comma in front."""
        if level >= self._min_level:
            self._write(
                f'{{"timestamp":"{timestamp(time.time())}","level":"{_LEVELS[level]}",'
                f'"logger":"{logger}","event":"{event}"{members}}}'
            )


_LEVELS = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


def _line(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """The members in order, without those that are None."""
    record = event.pop("_record")
    del event["_from_structlog"]
    error = error_of(event.pop("exc_info", None))
    line = {
        "timestamp": timestamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event.pop("event", None),
        **event,
        "left_out": getattr(record, "left_out", None),
        "exception": list(exceptions(error)) if error is not None else None,
    }
    return {name: value for name, value in line.items() if value is not None}


def error_of(exc_info: Any) -> BaseException | None:
    """The exception in ``exc_info``, as logging accepts it."""
    if exc_info is True:
        return sys.exception()
    if isinstance(exc_info, tuple):
        return exc_info[1] if isinstance(exc_info[1], BaseException) else None
    return exc_info if isinstance(exc_info, BaseException) else None


def exceptions(error: BaseException | None) -> Iterator[dict[str, Any]]:
    """An exception and its causes: types and frames, and the reason of an operating system's
    error."""
    for _ in range(MAX_CAUSES):
        if error is None:
            return
        entry: dict[str, Any] = {"type": type(error).__qualname__}
        if isinstance(error, OSError) and error.strerror:
            entry["reason"] = error.strerror
        entry["frames"] = _frames(error.__traceback__)
        if isinstance(error, BaseExceptionGroup):
            entry["of"] = [list(exceptions(part)) for part in error.exceptions[:MAX_CAUSES]]
        yield entry
        hidden = error.__suppress_context__
        error = error.__cause__ or (None if hidden else error.__context__)


def _frames(at: TracebackType | None) -> list[str]:
    """File, line and function of each frame; no source text, no values."""
    places = ((frame.f_code, line) for frame, line in traceback.walk_tb(at))
    return [f"{code.co_filename}:{line} {code.co_name}" for code, line in places][-MAX_FRAMES:]


# Base64url of the beginning of a JSON object, with the other segments of a token.
_TOKEN = re.compile(r"\bey[JA][A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*")
_PASSWORD = re.compile(r"://[^/\s@]*@")


def _without_secrets(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    return {name: _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _PASSWORD.sub("://[covered]@", _TOKEN.sub("[token]", value))
    if isinstance(value, Mapping):
        return {name: _masked(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item) for item in value]
    return value


def _for_terminal(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """Exceptions as lines; control characters are escaped."""
    if (chain := event.pop("exception", None)) is not None:
        event["exception"] = "\n".join(_as_lines(chain))
    return {
        name: escaped(value, keep="\n" if name == "exception" else "")
        if isinstance(value, str)
        else value
        for name, value in event.items()
    }


def _as_lines(chain: list[dict[str, Any]], indent: str = "") -> Iterator[str]:
    for error in chain:
        reason = f": {error['reason']}" if "reason" in error else ""
        yield f"{indent}{error['type']}{reason}"
        yield from (f"{indent}  {frame}" for frame in error["frames"])
        for part in error.get("of", ()):
            yield from _as_lines(part, indent + "    ")
