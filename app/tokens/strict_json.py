"""JSON as a signed token may carry it: RFC 8259 read so that no two readers can differ.

The standard library's parser takes more: duplicate members (the last one wins here, the first
one elsewhere), NaN, numbers that become infinite, lone surrogates.
"""

import json
import math
from typing import Any, NoReturn


class NotStrictJson(ValueError):
    """Not JSON that every parser reads alike."""


def strict_object(raw: bytes) -> dict[str, Any]:
    """Parse one JSON object from UTF-8. Raises `NotStrictJson`."""
    parsed = strict_json(raw)
    if not isinstance(parsed, dict):
        raise NotStrictJson
    return parsed


def strict_json(raw: bytes) -> Any:
    """Parse one JSON value from UTF-8. Raises `NotStrictJson`."""
    try:
        # decode() first: json.loads would also take UTF-16 and UTF-32 bytes.
        parsed = _parsed(raw.decode("utf-8"))
        if b"\\u" in raw:
            # Only an escape can bring a lone surrogate, which no UTF-8 writer can store later.
            json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        # ValueError: not UTF-8, not JSON, an integer of thousands of digits, and our own.
        raise NotStrictJson from None
    return parsed


def _parsed(text: str) -> Any:
    # `decode` also looks for white space around the object, for a fourth of the whole price.
    if text.startswith("{"):
        try:
            parsed, end = _SCAN(text, 0)
        except StopIteration:
            raise NotStrictJson from None
        if end == len(text):
            return parsed
    return _DECODER.decode(text)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrictJson
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NotStrictJson
    return number


def _no_constant(_: str) -> NoReturn:
    raise NotStrictJson


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_float=_finite, parse_constant=_no_constant
)
_SCAN = _DECODER.scan_once  # type: ignore[attr-defined]  # what its `raw_decode` calls
