"""What a request of the admin API says: its path, its query, its body. Checked here, once.

A query that nobody knows is a fault: a misspelled ``except`` must not end everything.
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
from app.web.errors import ApiFault, bad_request
from app.web.operator import Operator

# A revocation is one; a person's reason is 500 characters.
LARGEST_BODY = 16 * 1024

LONGEST_VALUE = 1024
"""Characters of any value of a query: as long as an issuer's name may be."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_Model = TypeVar("_Model", bound=BaseModel)


def operator(request: Request) -> Operator:
    """Who asks; the gate has let them in."""
    found: Operator = request.scope["operator"]
    return found


def segment(request: Request, name: str) -> str:
    """An id of the path, decoded once. Raises `ApiFault`.

    The routes match the path as it was sent, so that an encoded slash stays within its segment.
    """
    try:
        value = unquote(request.path_params[name], errors="strict")
    except UnicodeDecodeError:
        raise bad_request("the path is not percent-encoded UTF-8") from None
    if len(value) > LONGEST_VALUE or _CONTROL.search(value):
        raise bad_request("an id in the path is too long, or has characters that no id has")
    return value


def query(request: Request, known: Iterable[str]) -> dict[str, str]:
    """The query, each name once. Raises `ApiFault` for a name that is not ``known``."""
    found: dict[str, str] = {}
    names = set(known)
    for name, value in request.query_params.multi_items():
        if name not in names:
            raise bad_request(f"the query may have {', '.join(sorted(names)) or 'nothing'}")
        if name in found:
            raise bad_request(f"{name} may be said once")
        if not value or len(value) > LONGEST_VALUE or _CONTROL.search(value):
            raise bad_request(f"{name} is empty, too long, or has control characters")
        found[name] = value
    return found


def flag(found: dict[str, str], name: str) -> bool:
    """A ``true`` or ``false`` of the query; absent is false."""
    value = found.get(name, "false")
    if value not in ("true", "false"):
        raise bad_request(f"{name} is true or false")
    return value == "true"


def login_time(found: dict[str, str], name: str) -> int | None:
    """The time of a login, in whole epoch seconds; None where it is absent. Raises `ApiFault`."""
    value = found.get(name)
    if value is None:
        return None
    try:
        return math.floor(read_time(value))
    except ValueError:
        raise bad_request(f"{name} is not a time: {TIME_FORMS}") from None


async def body(request: Request, model: type[_Model]) -> _Model:
    """The JSON body as a model. Raises `ApiFault`: 413, 415, 400 or 422."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise ApiFault(415, "unsupported_media_type", "the body must be application/json")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > LARGEST_BODY:
            raise ApiFault(413, "too_large", "the body is larger than 16 KiB")
    try:
        found = strict_json(data)
    except NotStrictJson:
        raise bad_request("the body is not well-formed JSON with each member said once") from None
    try:
        return model.model_validate(found)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise ApiFault(422, "invalid_body", _sentence(faults)) from None


def _sentence(faults: Iterable[object]) -> str:
    """Each fault with the name of its member, and nothing of what was sent."""
    lines = []
    for fault in faults:
        where = ".".join(str(part) for part in fault["loc"])  # type: ignore[index]
        if fault["type"] == "extra_forbidden":  # type: ignore[index]
            lines.append("a member that is not known")
        else:
            message = fault["msg"].removeprefix("Value error, ")  # type: ignore[index]
            lines.append(f"{where}: {message}" if where else message)
    return "; ".join(dict.fromkeys(lines))[:500]
