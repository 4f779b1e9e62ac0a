"""What answers of providers look like: read as far as we use them, and no further.

Unknown members are ignored, for APIs grow; a known one of the wrong type is a fault.
"""

from datetime import UTC, datetime
from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from app.sessions.session_provider import FaultKind, ProviderFault


class Shape(BaseModel):
    """A JSON object of an answer."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


T = TypeVar("T")


def parse(kind: type[T], body: bytes, detail: str = "shape") -> T:
    """The body, as JSON of this shape. Raises `ProviderFault` (unexpected)."""
    try:
        return TypeAdapter(kind).validate_json(body)
    except (ValidationError, RecursionError):
        raise ProviderFault(FaultKind.UNEXPECTED, detail) from None


def matches(kind: type[T], body: bytes) -> bool:
    """Whether the body is JSON of this shape."""
    try:
        parse(kind, body)
    except ProviderFault:
        return False
    return True


def _epoch(value: object) -> object:
    """RFC 3339 as epoch seconds. Go writes year 1 where there is no time."""
    if not isinstance(value, str):
        return value
    moment = datetime.fromisoformat(value)  # a ValueError is the shape's fault
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None if moment.year < 1970 else moment.timestamp()


Epoch = Annotated[float, Field(ge=0, le=3e11)]
"""Epoch seconds, up to the year 9999: for some, that means never."""

Moment = Annotated[Epoch | None, BeforeValidator(_epoch)]
"""A time that an API writes as RFC 3339, as epoch seconds."""

Id = Annotated[str, Field(min_length=1, max_length=255)]
