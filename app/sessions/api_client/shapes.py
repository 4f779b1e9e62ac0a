"""Parses providers' responses, as far as they are used.

Unknown members are ignored, because APIs grow; a known member of the wrong type is a fault.
"""

from datetime import UTC, datetime
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from app.sessions.api_client.calls import ApiResponse
from app.sessions.session_provider import FaultKind, ProviderFault


class Shape(BaseModel):
    """A JSON object in a response."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


T = TypeVar("T")


def parse(kind: type[T], body: bytes, detail: str = "shape") -> T:
    """Parse a JSON body of this shape. Raises `ProviderFault` (unexpected)."""
    try:
        return TypeAdapter(kind).validate_json(body)
    except (ValidationError, RecursionError):
        raise ProviderFault(FaultKind.UNEXPECTED, detail) from None


def is_not_found(response: ApiResponse, kind: type[Shape]) -> bool:
    """Whether the provider itself reports a 404, with a body of this shape.

    Raises `ProviderFault` for the 404 of a proxy or another server, which says nothing about a
    session.
    """
    if response.status != 404:
        return False
    parse(kind, response.body, "http_404")
    return True


def _epoch(value: object) -> object:
    """RFC 3339 as epoch seconds. Go writes year 1 for a missing time."""
    if not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)  # a ValueError becomes the shape's fault
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None if moment.year < 1970 else moment.timestamp()


Epoch = Annotated[float, Field(ge=0, le=3e11)]
"""Epoch seconds, up to the year 9999, which some APIs use for "never"."""

Moment = Annotated[Epoch | None, BeforeValidator(_epoch)]
"""A time in RFC 3339, as epoch seconds."""

Id = Annotated[str, Field(min_length=1, max_length=255)]
