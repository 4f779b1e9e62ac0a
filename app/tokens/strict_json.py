"""Strict JSON (RFC 8259) for tokens: accepts only what every parser reads alike.

The standard library's parser accepts more: duplicate members (the last one wins here, the first
one elsewhere), NaN, numbers that become infinite, lone surrogates.
"""

import json
import math
from typing import Any, NoReturn


class NotStrictJson(ValueError):
    """Not JSON which every parser reads alike."""


def strict_object(raw: bytes) -> dict[str, Any]:
    """Parse one JSON object from UTF-8. Raises `NotStrictJson`."""
    parsed = strict_json(raw)
    if not isinstance(parsed, dict):
        raise NotStrictJson
    return parsed


def strict_json(raw: bytes) -> Any:
    """Parse one JSON value from UTF-8. Raises `NotStrictJson`."""
    try:
        # decode() first: json.loads would also accept UTF-16 and UTF-32.
        parsed = _DECODER.decode(raw.decode("utf-8"))
        if b"\\u" in raw:
            # Only an escape can produce a lone surrogate, which cannot be stored as UTF-8 later.
            json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        # ValueError: not UTF-8, not JSON, an integer of thousands of digits, or our own.
        raise NotStrictJson from None
    return parsed


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
