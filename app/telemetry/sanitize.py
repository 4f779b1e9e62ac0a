"""Turns values of untrusted tokens into bounded, printable, single-line text.

Every value may be an attacker's. Control characters are escaped, and text that is cut ends in
``…``. Values that are not text are shown as JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

from app.formatting import escaped

CUT = "…"

_MAX_AUDIENCES = 20
_MAX_NUMBER = 24


def text(members: Mapping[str, Any], name: str, max_bytes: int) -> str | None:
    """The member as text; None if it is absent."""
    if name not in members:
        return None
    value = members[name]
    return bounded(value if isinstance(value, str) else _json(value), max_bytes)


def number(members: Mapping[str, Any], name: str) -> str | None:
    """The member as JSON if it is a number; else only its JSON type and length, such as ``string of
    10``, because the value may be a name."""
    if name not in members:
        return None
    value = members[name]
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return bounded(_json(value), _MAX_NUMBER)
        case str():
            return f"string of {len(value)}"
        case list():
            return f"array of {len(value)}"
        case _:
            return f"object of {len(value)}"


def audiences(claims: Mapping[str, Any], max_bytes: int) -> str | None:
    """``aud`` as JSON; a long list is cut and ends in ``…``."""
    if "aud" not in claims:
        return None
    aud = claims["aud"]
    if not isinstance(aud, list):
        return _text(bounded(aud if isinstance(aud, str) else _json(aud), max_bytes // 2))
    items: list[str] = []
    for item in aud[:_MAX_AUDIENCES]:
        items.append(bounded(item if isinstance(item, str) else _json(item), max_bytes // 4))
        if len(_text(items).encode()) > max_bytes - 12:
            items.pop()
            break
    if len(items) < len(aud):
        items.append(CUT)
    return _text(items)


def bounded(value: str, max_bytes: int) -> str:
    """At most ``max_bytes`` of UTF-8 without control characters."""
    # Every character has at least one byte, so the rest is not examined.
    printable = escaped(value[:max_bytes])
    encoded = printable.encode()
    if len(encoded) <= max_bytes and len(value) <= max_bytes:
        return printable
    return encoded[: max_bytes - len(CUT.encode())].decode(errors="ignore") + CUT


def _text(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _json(value: Any) -> str:
    """As JSON; objects and arrays only by their kind, because they may be large."""
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if isinstance(value, list):
        return "[…]" if value else "[]"
    if isinstance(value, str):
        return json.dumps(value[:_MAX_NUMBER], ensure_ascii=False)
    return json.dumps(value)
