"""The form of a logout request (Back-Channel Logout 1.0, section 2.5): its one token."""

from collections.abc import Callable
from urllib.parse import parse_qsl

from starlette.requests import Request

from app.errors import Reason, TokenRefused

# Real bodies have 450 to 850 bytes; a token with session metadata a few KiB.
LARGEST_BODY = 64 * 1024

# 64 KiB can hold 65,536 empty fields; providers send one or two.
_MOST_FIELDS = 1000

_FORM = "application/x-www-form-urlencoded"

_ALONE = b"logout_token="
_AND, _PERCENT, _PLUS = b"&%+"


async def read_form(request: Request, grown_to: Callable[[int], None]) -> bytes:
    """The one ``logout_token`` of the form (section 2.5). Other fields are ignored.

    ``grown_to`` is told the bytes that are held so far, and may raise.
    """
    _check_media_type(request.headers.get("content-type", ""))
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise TokenRefused(Reason.BODY_TOO_LARGE)
        grown_to(len(body))
    return _token_in(body)


def read_whole(media_type: str, body: bytes) -> bytes:
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
    try:
        # latin-1 gives every byte a character: what other fields hold must not matter.
        fields = parse_qsl(
            body.decode("latin-1"),
            keep_blank_values=True,
            encoding="latin-1",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise TokenRefused(Reason.FORM) from None
    tokens = [value for name, value in fields if name == "logout_token"]
    if len(tokens) > 1:
        raise TokenRefused(Reason.LOGOUT_TOKEN_REPEATED)
    if not tokens or not tokens[0]:
        raise TokenRefused(Reason.LOGOUT_TOKEN_MISSING)
    return tokens[0].encode("latin-1")
