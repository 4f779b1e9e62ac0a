"""Values for people: times, ages, and text that can do nothing to a terminal."""

import argparse
import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from app.settings_values import seconds

YEAR_9999 = 253_370_764_800
"""Where calendars end, in epoch seconds."""

# What stands for itself in a line: nothing that ends a word, quotes, or moves a cursor.
_PLAIN = re.compile(r"[A-Za-z0-9._~:/?#@!$&'*+;=%|,-]+")

_LONGEST = 120


def moment(when: float) -> str:
    """An epoch time as people write it."""
    if not -YEAR_9999 / 10 < when < YEAR_9999:
        return "not a time"
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def precisely(when: float) -> str:
    """`moment` to the millisecond, without the zone: for columns."""
    if not -YEAR_9999 / 10 < when < YEAR_9999:
        return "not a time"
    return datetime.fromtimestamp(when, UTC).isoformat(" ", "milliseconds").partition("+")[0]


def length(duration: float) -> str:
    """A length of time, in its largest unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if abs(duration) >= 2 * size:
            return f"{duration / size:.0f} {unit}"
    return f"{duration:.0f} s" if abs(duration) >= 10 else f"{duration:.3g} s"


def ago(when: float, now: float) -> str:
    """How long it is since then."""
    return f"{length(now - when)} ago" if when <= now else f"in {length(when - now)}"


def shown(value: Any) -> str:
    """A value for a terminal: JSON in ASCII, so no control character gets through; cut short."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def bare(value: str) -> str:
    """`shown`, without quotes where nothing in the text needs them."""
    return value if len(value) <= _LONGEST and _PLAIN.fullmatch(value) else shown(value)


def time_argument(text: str) -> float:
    """Epoch seconds, or ISO 8601; for argparse."""
    try:
        when = float(text)
    except ValueError:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            when = math.nan
        else:
            when = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(when):
        raise argparse.ArgumentTypeError("epoch seconds, or ISO 8601 such as 2026-11-21T18:44:01Z")
    return when


def duration_argument(text: str) -> float:
    """A number of seconds, or a text such as ``90s``, ``10m``; for argparse."""
    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
