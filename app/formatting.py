"""Values for people: times, ages, and text that can do nothing to a terminal."""

import json
import re
from datetime import UTC, datetime
from typing import Any

YEAR_9999 = 253_370_764_800
"""Where calendars end, in epoch seconds."""

# What stands for itself in a line: nothing that ends a word, quotes, or moves a cursor.
_PLAIN = re.compile(r"[A-Za-z0-9._~:/?#@!$&'*+;=%|,-]+")

_LONGEST = 120


TIME_FORMS = "epoch seconds or milliseconds, or ISO 8601 such as 2026-11-21T18:44:01Z"
"""What `read_time` reads, for people."""

# As seconds it is the year 5138, as milliseconds 1973: nobody means the former.
_SMALLEST_MILLISECONDS = 1e11


_NUMBER = re.compile(r"[0-9]{1,17}(\.[0-9]{1,9})?")


def read_time(text: str) -> float:
    """A time as people and logs write it, in epoch seconds: see `TIME_FORMS`. Also as `moment`
    shows it. Raises ``ValueError``."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        when = float(text)
        when = when / 1000 if when >= _SMALLEST_MILLISECONDS else when
    else:
        found = datetime.fromisoformat(text.removesuffix(" UTC"))
        when = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if not 0 <= when < _SMALLEST_MILLISECONDS:
        raise ValueError(text)  # microseconds, say
    return when


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
    return f"{_whole(now - when)} ago" if when <= now else f"in {_whole(when - now)}"


def _whole(duration: float) -> str:
    """`length`, without fractions of a second: of an age they are noise."""
    return length(duration) if duration >= 10 else f"{duration:.0f} s"


def shown(value: Any) -> str:
    """A value for a terminal: JSON in ASCII, so no control character gets through; cut short."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def bare(value: str) -> str:
    """`shown`, without quotes where nothing in the text needs them."""
    return value if len(value) <= _LONGEST and _PLAIN.fullmatch(value) else shown(value)


def one_line(text: str) -> str:
    """A sentence for a terminal: what is not printable is spelled out, so that no control character
    and no mark of direction in it does anything; blanks stay."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


FETCH_FAULTS = {
    "connection": "can not be reached",
    "timeout": "does not answer in time",
    "not_https": "names an address that is not https",
    "content_encoding": "compressed, although we ask for it plain",
    "too_large": "larger than 512 KiB",
    "not_a_key_set": "the keys are no JSON Web Key Set with a key that can be used",
    "discovery_not_json": "the document is not JSON",
    "discovery_issuer": "the document names another issuer than the settings",
    "discovery_jwks_uri": "the document names no jwks_uri",
}
"""A sentence for each code of a failed fetch; ``http_404`` and the like speak for themselves."""


def fetch_fault(code: str, detail: str = "") -> str:
    """A failed fetch for people: the code, and what it means or, where it is known, the detail."""
    sentence = detail or FETCH_FAULTS.get(code)
    return f"{code}: {sentence}" if sentence else code


def duration(seconds: float) -> str:
    """As a setting says it: ``90s``, ``10m``, ``10h``, ``30d``; the largest unit that is exact."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
