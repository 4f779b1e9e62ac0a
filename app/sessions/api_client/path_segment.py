"""An id as one segment of a URL's path: checked, then encoded, so that it stays one."""

import re
from urllib.parse import quote

# As long as a `sub` or a `sid` of a logout token may be.
MAX_ID_LENGTH = 255

# An id that looks percent-encoded would be encoded once more by us, and might be decoded twice
# on its way by a proxy.
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")


class InvalidId(ValueError):
    """Nothing has this id: it is empty, too long, or would not stay one segment of a path."""


def path_segment(value: str) -> str:
    """The id, percent-encoded, to stand between two slashes. Raises `InvalidId`.

    Refused although RFC 3986 could encode them: slash and backslash, ``.`` and ``..``, control
    characters, and what is percent-encoded already. Between us and the provider stand proxies
    that decode, normalize and decode again; then a session's id would name something else.
    """
    if not 1 <= len(value) <= MAX_ID_LENGTH or value in (".", ".."):
        raise InvalidId("an id has 1 to 255 characters, and is more than dots")
    if not value.isprintable() or "/" in value or "\\" in value or _ENCODED.search(value):
        raise InvalidId("an id holds no slashes, control characters or percent-encoded characters")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:  # a lone surrogate
        raise InvalidId("an id can be written as UTF-8") from None
