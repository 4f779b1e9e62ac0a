"""Checks the path, the query and the body of an API request.

An unknown query parameter is an error: a misspelled ``except`` must not end every session.
"""

import math
import re
from collections.abc import Iterable
from typing import TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from app.formatting import TIME_FORMS, read_time
from app.tokens.strict_json import NotStrictJson, strict_json
from app.web.errors import ApiError, bad_request
from app.web.operator import Operator

MAX_BODY = 16 * 1024
"""Bytes: enough for a revocation with a reason of 500 characters."""

MAX_VALUE = 1024
"""Characters of a query value: as long as an issuer's name may be."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_Model = TypeVar("_Model", bound=BaseModel)


def operator(request: Request) -> Operator:
    """On whose behalf the request is served, as authenticated before."""
    identified: Operator = request.scope["operator"]
    return identified


def path_id(request: Request, name: str) -> str:
    """An id of the path, decoded once. Raises `ApiError`.

    Routes match the path as sent, so an encoded slash stays within its segment.
    """
    try:
        value = unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError:
        raise bad_request("the path is not percent-encoded UTF-8") from None
    if len(value) > MAX_VALUE or _CONTROL.search(value):
        raise bad_request("an id in the path is too long, or has characters that no id has")
    return value


def query(request: Request, known: Iterable[str]) -> dict[str, str]:
    """The query parameters. Raises `ApiError` for an unknown or repeated name."""
    values: dict[str, str] = {}
    names = set(known)
    for name, value in request.query_params.multi_items():
        if name not in names:
            raise bad_request(f"the query may have {', '.join(sorted(names)) or 'nothing'}")
        if name in values:
            raise bad_request(f"{name} may be said once")
        if not value or len(value) > MAX_VALUE or _CONTROL.search(value):
            raise bad_request(f"{name} is empty, too long, or has control characters")
        values[name] = value
    return values


def flag(values: dict[str, str], name: str) -> bool:
    """A ``true`` or ``false`` of the query; false if absent."""
    value = values.get(name, "false")
    if value not in ("true", "false"):
        raise bad_request(f"{name} is true or false")
    return value == "true"


def login_time(values: dict[str, str], name: str) -> int | None:
    """The time of a login in whole epoch seconds; None if absent. Raises `ApiError`."""
    value = values.get(name)
    if value is None:
        return None
    try:
        return math.floor(read_time(value))
    except ValueError:
        raise bad_request(f"{name} is not a time: {TIME_FORMS}") from None


async def body(request: Request, model: type[_Model]) -> _Model:
    """The JSON body as a model. Raises `ApiError`: 413, 415, 400 or 422."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiError(415, "unsupported_media_type", "the body must be application/json")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise ApiError(413, "too_large", "the body is larger than 16 KiB")
    try:
        members = strict_json(data)
    except NotStrictJson:
        raise bad_request("the body is not well-formed JSON with each member said once") from None
    try:
        return model.model_validate(members)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        raise ApiError(422, "invalid_body", _sentence(errors)) from None


def _sentence(errors: Iterable[object]) -> str:
    """Each error with the name of its member, and nothing of the request."""
    lines = []
    for error in errors:
        where = ".".join(str(part) for part in error["loc"])  # type: ignore[index]
        if error["type"] == "extra_forbidden":  # type: ignore[index]
            lines.append("a member that is not known")
        else:
            message = error["msg"].removeprefix("Value error, ")  # type: ignore[index]
            lines.append(f"{where}: {message}" if where else message)
    return "; ".join(dict.fromkeys(lines))[:500]
