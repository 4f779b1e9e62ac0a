"""Formats values for people: times, durations, and text that is safe in a terminal."""

import json
import re
from datetime import UTC, datetime
from typing import Any

YEAR_9999 = 253_370_764_800
"""The last year of `datetime`, in epoch seconds."""

# Text that needs no quotes in a line.
_PLAIN = re.compile(r"[A-Za-z0-9._~:/?#@!$&'*+;=%|,-]+")

_MAX_LENGTH = 120


TIME_FORMS = "epoch seconds or milliseconds, or ISO 8601 such as 2026-11-21T18:44:01Z"
"""The formats that `read_time` accepts."""

# In seconds this is the year 5138, in milliseconds 1973.
_MIN_MILLISECONDS = 1e11


_NUMBER = re.compile(r"[0-9]{1,17}(\.[0-9]{1,9})?")


def read_time(text: str) -> float:
    """Parse a time in one of `TIME_FORMS` or as `moment` formats it; returns epoch seconds. Raises
    ``ValueError``."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        when = float(text)
        when = when / 1000 if when >= _MIN_MILLISECONDS else when
    else:
        parsed = datetime.fromisoformat(text.removesuffix(" UTC"))
        when = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    if not 0 <= when < _MIN_MILLISECONDS:
        raise ValueError(text)  # for example microseconds
    return when


def moment(when: float) -> str:
    """An epoch time as a date and time in UTC."""
    if not -YEAR_9999 / 10 < when < YEAR_9999:
        return "not a time"
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def precise_moment(when: float) -> str:
    """`moment` to the millisecond, without the zone: for columns."""
    if not -YEAR_9999 / 10 < when < YEAR_9999:
        return "not a time"
    return datetime.fromtimestamp(when, UTC).isoformat(" ", "milliseconds").partition("+")[0]


def rounded_duration(duration: float) -> str:
    """A duration, rounded, in a suitable unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(duration) >= 2 * size:
            return f"{duration / size:.0f} {unit}"
    return f"{duration:.0f} s" if abs(duration) >= 10 else f"{duration:.3g} s"


def ago(when: float, now: float) -> str:
    """How long ago that was."""
    return f"{_whole(now - when)} ago" if when <= now else f"in {_whole(when - now)}"


def _whole(duration: float) -> str:
    """`rounded_duration` without fractions of a second."""
    return rounded_duration(duration) if duration >= 10 else f"{duration:.0f} s"


def quoted(value: Any) -> str:
    """A value as ASCII JSON, which has no control characters, cut to a maximum length."""
    text = json.dumps(value)
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 3] + "..."


def bare(value: str) -> str:
    """`quoted` only where the text needs it."""
    return value if len(value) <= _MAX_LENGTH and _PLAIN.fullmatch(value) else quoted(value)


def escaped(text: str, *, keep: str = "") -> str:
    """Text for a terminal, with control characters and marks of direction escaped, except those in
    ``keep``."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in text
    )


FETCH_FAULTS = {
    "connection": "cannot be reached",
    "timeout": "does not answer in time",
    "not_https": "names an address that is not https",
    "content_encoding": "compressed, although we ask for it plain",
    "too_large": "larger than 512 KiB",
    "not_a_key_set": "the keys are no JSON Web Key Set with a key that can be used",
    "discovery_not_json": "the document is not JSON",
    "discovery_issuer": "the document names another issuer than the settings",
    "discovery_jwks_uri": "the document names no jwks_uri",
}
"""A sentence for each code of a failed fetch; codes such as ``http_404`` need none."""


def fetch_fault(code: str, detail: str = "") -> str:
    """A failed fetch: the code, and the detail or the meaning."""
    sentence = detail or FETCH_FAULTS.get(code)
    return f"{code}: {sentence}" if sentence else code


def duration(seconds: float) -> str:
    """As settings write it, in the largest exact unit: ``90s``, ``10m``, ``10h``, ``30d``."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def size(number: int) -> str:
    """As settings write it, in the largest exact unit: ``512``, ``64KiB``, ``1GiB``."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= factor and number % factor == 0:
            return f"{number // factor}{unit}"
    return str(number)
