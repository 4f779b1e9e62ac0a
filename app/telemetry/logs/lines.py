"""What a line of the log looks like, and what may be in it.

    {"timestamp": ..., "level": ..., "logger": ..., "event": "keys", "outcome": "failed", ...}

The same for our own events and for what libraries say. Two nets for what nobody meant to tell: of
an exception the line has its type and where it was raised, never its words, which may quote what
came in; and whatever looks like a token or like a password in a URL is covered.
"""

import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from structlog.dev import ConsoleRenderer
from structlog.processors import JSONRenderer
from structlog.stdlib import ProcessorFormatter

# Deeper than any of our own stacks; the last ones are told.
MOST_FRAMES = 30

# As deep as causes are followed: libraries nest three or four.
MOST_CAUSES = 8


def formatter(*, as_json: bool, colors: bool = False) -> ProcessorFormatter:
    """Renders every record of this process. ``colors`` is for a terminal."""
    processors: list[Any] = [_line, _without_secrets]
    if as_json:
        processors.append(JSONRenderer(separators=(",", ":")))
    else:
        processors += [_for_people, ConsoleRenderer(colors=colors)]
    return ProcessorFormatter(processors=processors)


class _Second:
    """The last second that was spelled: most lines share theirs with the one before."""

    at = -1
    spelled = ""


def timestamp(at: float) -> str:
    """ISO 8601 in UTC with milliseconds. ``at`` is epoch seconds."""
    second = int(at)
    if second != _Second.at:
        _Second.spelled = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _Second.at = second
    return f"{_Second.spelled}.{int((at - second) * 1000):03d}Z"


def _line(_: Any, __: str, told: dict[str, Any]) -> dict[str, Any]:
    """The members in their order, those that are None left out."""
    record = told.pop("_record")
    del told["_from_structlog"]
    error = error_of(told.pop("exc_info", None))
    line = {
        "timestamp": timestamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": told.pop("event", None),
        **told,
        "left_out": getattr(record, "left_out", None),
        "exception": list(exceptions(error)) if error is not None else None,
    }
    return {name: value for name, value in line.items() if value is not None}


def error_of(exc_info: Any) -> BaseException | None:
    """The exception of what logging calls ``exc_info``."""
    if exc_info is True:
        return sys.exception()
    if isinstance(exc_info, tuple):
        return exc_info[1] if isinstance(exc_info[1], BaseException) else None
    return exc_info if isinstance(exc_info, BaseException) else None


def exceptions(error: BaseException | None) -> Iterator[dict[str, Any]]:
    """An exception and its causes: type and places, and of the system's own errors the reason."""
    for _ in range(MOST_CAUSES):
        if error is None:
            return
        told: dict[str, Any] = {"type": type(error).__qualname__}
        if isinstance(error, OSError) and error.strerror:
            told["reason"] = error.strerror
        told["frames"] = _frames(error.__traceback__)
        if isinstance(error, BaseExceptionGroup):
            told["of"] = [list(exceptions(one)) for one in error.exceptions[:MOST_CAUSES]]
        yield told
        hidden = error.__suppress_context__
        error = error.__cause__ or (None if hidden else error.__context__)


def _frames(at: TracebackType | None) -> list[str]:
    """File, line and function of each frame; no source text, no values."""
    walked = ((frame.f_code, line) for frame, line in traceback.walk_tb(at))
    return [f"{code.co_filename}:{line} {code.co_name}" for code, line in walked][-MOST_FRAMES:]


# Base64url of a JSON object's first characters, and what a signed or encrypted token goes on with.
_TOKEN = re.compile(r"\bey[JA][A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*")
_PASSWORD = re.compile(r"://[^/\s@]*@")


def _without_secrets(_: Any, __: str, told: dict[str, Any]) -> dict[str, Any]:
    return {name: _covered(value) for name, value in told.items()}


def _covered(value: Any) -> Any:
    if isinstance(value, str):
        return _PASSWORD.sub("://[covered]@", _TOKEN.sub("[token]", value))
    if isinstance(value, Mapping):
        return {name: _covered(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_covered(one) for one in value]
    return value


def _for_people(_: Any, __: str, told: dict[str, Any]) -> dict[str, Any]:
    """Exceptions as lines; nothing that a terminal would obey."""
    if (found := told.pop("exception", None)) is not None:
        told["exception"] = "\n".join(_as_lines(found))
    return {
        name: _printable(value, keep="\n" if name == "exception" else "")
        for name, value in told.items()
    }


def _as_lines(found: list[dict[str, Any]], indent: str = "") -> Iterator[str]:
    for one in found:
        reason = f": {one['reason']}" if "reason" in one else ""
        yield f"{indent}{one['type']}{reason}"
        yield from (f"{indent}  {frame}" for frame in one["frames"])
        for member in one.get("of", ()):
            yield from _as_lines(member, indent + "    ")


def _printable(value: Any, keep: str = "") -> Any:
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in value
    )
