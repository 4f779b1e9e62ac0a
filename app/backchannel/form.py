"""The form of a logout request (Back-Channel Logout 1.0, section 2.5) and its one token."""

from typing import NoReturn
from urllib.parse import unquote_to_bytes

from app.errors import Reason, TokenRefused

# Real bodies have 450 to 850 bytes. Signed and encrypted, a token with 6 KiB of claims has 12 KiB.
MAX_BODY = 16 * 1024

# Providers send one or two.
_MAX_FIELDS = 100

# In the token and all names together. A token needs none. An encoder that also escapes `.`, `-`
# and `_` produces 500 in 16 KiB; each costs a third of a microsecond.
_MAX_ESCAPES = 512

_FORM = "application/x-www-form-urlencoded"

_NAME = b"logout_token"
_PREFIX = _NAME + b"="
_AND, _PERCENT, _PLUS = b"&%+"


def read_token(media_type: str, body: bytes | bytearray) -> bytes:
    """The form's one ``logout_token``; other fields are ignored. Raises `TokenRefused`."""
    _check_media_type(media_type)
    if len(body) > MAX_BODY:
        raise TokenRefused(Reason.BODY_TOO_LARGE)
    if (
        body.startswith(_PREFIX)
        and len(body) > len(_PREFIX)
        and _AND not in body
        and _PERCENT not in body
        and _PLUS not in body
    ):
        # One field without escapes, as most providers send it; `_token_in` gives the same.
        return bytes(body[len(_PREFIX) :])
    return _token_in(body)


def refuse_too_large(media_type: str) -> NoReturn:
    """Refuse a body before all of it has arrived."""
    _check_media_type(media_type)
    raise TokenRefused(Reason.BODY_TOO_LARGE)


def is_too_large(content_length: str) -> bool:
    """Whether a Content-Length announces more than `MAX_BODY`."""
    # The parser accepts any number of leading zeros, and `int` at most 4,300 digits.
    digits = content_length.lstrip("0")
    return digits.isdecimal() and (len(digits) > 7 or int(digits) > MAX_BODY)


def _check_media_type(media_type: str) -> None:
    if media_type != _FORM and media_type.partition(";")[0].strip().lower() != _FORM:
        raise TokenRefused(Reason.CONTENT_TYPE)


def _token_in(body: bytes | bytearray) -> bytes:
    if body.count(_AND) >= _MAX_FIELDS:
        raise TokenRefused(Reason.FORM)
    tokens: list[bytes] = []
    escapes = 0
    for name, _, value in (field.partition(b"=") for field in bytes(body).split(b"&")):
        if _PERCENT in name:
            escapes = _bounded(escapes + name.count(_PERCENT))
            name = _unquoted(name)  # noqa: PLW2901
        if name == _NAME:
            tokens.append(value)
    if len(tokens) > 1:
        raise TokenRefused(Reason.LOGOUT_TOKEN_REPEATED)
    if not tokens or not tokens[0]:
        raise TokenRefused(Reason.LOGOUT_TOKEN_MISSING)
    _bounded(escapes + tokens[0].count(_PERCENT))
    return _unquoted(tokens[0])


def _bounded(escapes: int) -> int:
    if escapes > _MAX_ESCAPES:
        raise TokenRefused(Reason.FORM)
    return escapes


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))
