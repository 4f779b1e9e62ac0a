"""Reads the query and the forms of the console's requests."""

import hmac
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.datastructures import FormData
from starlette.requests import Request

from app.web.errors import ApiError, bad_request
from app.web.params import MAX_BODY, MAX_VALUE

# A pasted token is a few KiB; one with many groups is larger.
MAX_FORM = 4 * MAX_BODY

_ENTRY = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")

IDS = ("sid", "sub", "user")
"""Parameters that are taken literally: an id may have any characters."""


def query(request: Request, *known: str) -> dict[str, str]:
    """The query parameters without empty ones, as forms send them. Raises `ApiError`."""
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known or name in values:
            raise bad_request(f"the address may have {', '.join(known) or 'nothing'}, each once")
        if len(value) > MAX_VALUE:
            raise bad_request(f"{name} is too long")
        if text := value if name in IDS else value.strip():
            values[name] = text
    return values


def entry_id(values: Mapping[str, str], name: str = "before") -> str:
    """The id of a stream entry, or ``+`` if absent. Raises `ApiError`."""
    value = values.get(name, "+")
    if value != "+" and not _ENTRY.fullmatch(value):
        raise bad_request(f"{name} is the id of an entry, such as 1795283041207-0")
    return value


async def form(request: Request) -> FormData:
    """The fields of a URL-encoded form of at most `MAX_FORM` bytes. Raises `ApiError`."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise ApiError(415, "unsupported_media_type", "the body must be a form")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_FORM:
            raise ApiError(413, "too_large", "the form is larger than 64 KiB")
    try:
        return FormData(dict(parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=50)))
    except ValueError:
        raise bad_request("the form can not be read") from None


async def session_form(request: Request) -> FormData:
    """The fields of a form that carries this session's CSRF token. Raises `ApiError`."""
    fields = await form(request)
    sent = str(fields.get("csrf", ""))
    own = request.scope["session"].get("csrf")  # the session may have ended during the upload
    if own is None or not hmac.compare_digest(sent.encode(), own.encode()):
        raise ApiError(403, "csrf", "this form is not one of this session; go back and reload")
    return fields
