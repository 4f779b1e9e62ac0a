"""An id as one segment of a URL's path: checked, then encoded, so that it remains one segment."""

import re
from urllib.parse import quote

# The same limit as for `sub` and `sid` of a logout token.
MAX_ID_LENGTH = 255

# We would encode it again, and a proxy might decode it twice.
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")


class InvalidId(ValueError):
    """No object has this id: it is empty, too long, or would not remain one path segment."""


def path_segment(value: str) -> str:
    """The id, percent-encoded. Raises `InvalidId`.

    Rejects slash, backslash, ``.``, ``..``, control characters and percent-encoded text, although
    RFC 3986 could encode most of them: proxies on the way decode and normalize paths, and the id
    would then name something else.
    """
    if not 1 <= len(value) <= MAX_ID_LENGTH or value in (".", ".."):
        raise InvalidId("an id has 1 to 255 characters, and is more than dots")
    if not value.isprintable() or "/" in value or "\\" in value or _ENCODED.search(value):
        raise InvalidId("an id holds no slashes, control characters or percent-encoded characters")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:  # a lone surrogate
        raise InvalidId("an id can be written as UTF-8") from None
