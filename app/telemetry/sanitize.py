"""What somebody has put into a token, as text that can be shown: bounded, and on one line.

Every value is an attacker's. Nothing that a terminal or a log would obey is left, nothing is long;
what is cut ends in ``…``. What is no text is shown as JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

CUT = "…"

_MOST_AUDIENCES = 20
_LONGEST_NUMBER = 24


def text(members: Mapping[str, Any], name: str, most: int) -> str | None:
    """The member as text of at most ``most`` bytes; None where there is none."""
    if name not in members:
        return None
    value = members[name]
    return bounded(value if isinstance(value, str) else _json(value), most)


def number(members: Mapping[str, Any], name: str) -> str | None:
    """The member as JSON, if it is a number; of anything else only the JSON type and how long it
    is, such as ``string of 10``, for it may be somebody's name."""
    if name not in members:
        return None
    value = members[name]
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return bounded(_json(value), _LONGEST_NUMBER)
        case str():
            return f"string of {len(value)}"
        case list():
            return f"array of {len(value)}"
        case _:
            return f"object of {len(value)}"


def audiences(claims: Mapping[str, Any], most: int) -> str | None:
    """``aud`` as JSON of at most ``most`` bytes; of a long list the beginning, and ``…``."""
    if "aud" not in claims:
        return None
    aud = claims["aud"]
    if not isinstance(aud, list):
        return _spelled(bounded(aud if isinstance(aud, str) else _json(aud), most // 2))
    shown: list[str] = []
    for one in aud[:_MOST_AUDIENCES]:
        shown.append(bounded(one if isinstance(one, str) else _json(one), most // 4))
        if len(_spelled(shown).encode()) > most - 12:
            shown.pop()
            break
    if len(shown) < len(aud):
        shown.append(CUT)
    return _spelled(shown)


def bounded(value: str, most: int) -> str:
    """At most ``most`` bytes of UTF-8, of which nothing is a control character."""
    # A character has a byte at the least, so the rest is not even looked at.
    printable = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in value[:most]
    )
    encoded = printable.encode()
    if len(encoded) <= most and len(value) <= most:
        return printable
    return encoded[: most - len(CUT.encode())].decode(errors="ignore") + CUT


def _spelled(shown: str | list[str]) -> str:
    return json.dumps(shown, ensure_ascii=False)


def _json(value: Any) -> str:
    """As JSON; of what has parts only what it is, for it may be large."""
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if isinstance(value, list):
        return "[…]" if value else "[]"
    if isinstance(value, str):
        return json.dumps(value[:_LONGEST_NUMBER], ensure_ascii=False)
    return json.dumps(value)
