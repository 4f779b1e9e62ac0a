"""The form of a logout request (Back-Channel Logout 1.0, section 2.5): its one token."""

from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from app.errors import Reason, TokenRefused

# Real bodies have 450 to 850 bytes. Signed and encrypted, a token with 6 KiB of claims has 12 KiB.
LARGEST_BODY = 16 * 1024

# Providers send one or two.
_MOST_FIELDS = 100

# Of the token and of all names together. A token needs none. An encoder that escapes `.`, `-` and
# `_`, too, makes 500 in 16 KiB; each costs a third of a microsecond.
_MOST_ESCAPES = 512

_FORM = "application/x-www-form-urlencoded"

_NAME = b"logout_token"
_ALONE = _NAME + b"="
_AND, _PERCENT, _PLUS = b"&%+"


async def read_form(request: Request, grown_to: Callable[[int], None]) -> bytes:
    """The one ``logout_token`` of the form (section 2.5). Other fields are ignored.

    ``grown_to`` is told the bytes that are held so far, and may raise.
    """
    media_type = request.headers.get("content-type", "")
    length = request.headers.get("content-length", "")
    body = bytearray()
    if not _is_too_large(length):
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_BODY:
                break
            grown_to(len(body))
        else:
            # Not before the body is there: an answer to half a request ends its connection.
            return read_whole(media_type, body)
    _check_media_type(media_type)
    raise TokenRefused(Reason.BODY_TOO_LARGE)


def _is_too_large(length: str) -> bool:
    """Whether a Content-Length announces more than `LARGEST_BODY`."""
    # The parser takes any number of zeros before it, and Python reads no more than 4,300 digits.
    length = length.lstrip("0")
    return length.isdecimal() and (len(length) > 7 or int(length) > LARGEST_BODY)


def read_whole(media_type: str, body: bytes | bytearray) -> bytes:
    """`read_form` where nothing has to be waited for."""
    _check_media_type(media_type)
    if len(body) > LARGEST_BODY:
        raise TokenRefused(Reason.BODY_TOO_LARGE)
    return _token_in(body)


def _check_media_type(given: str) -> None:
    if given != _FORM and given.partition(";")[0].strip().lower() != _FORM:
        raise TokenRefused(Reason.CONTENT_TYPE)


def _token_in(body: bytes | bytearray) -> bytes:
    if (
        body.startswith(_ALONE)
        and len(body) > len(_ALONE)
        and _AND not in body
        and _PERCENT not in body
        and _PLUS not in body
    ):
        # One field and nothing to unquote, as most providers send it: what is below says the same.
        return bytes(body[len(_ALONE) :])
    if body.count(_AND) >= _MOST_FIELDS:
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
    if escapes > _MOST_ESCAPES:
        raise TokenRefused(Reason.FORM)
    return escapes


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))
