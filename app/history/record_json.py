"""Records as JSON values.

pydantic serializes the dataclasses themselves and derives their JSON schemas for the API's OpenAPI
document, so each shape is stated once.
"""

from functools import cache
from typing import Annotated, Any, Literal, NotRequired

from pydantic import PlainSerializer, TypeAdapter
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from backchannel_logout import AppStatus, Event, Proof


class EventMembers(TypedDict):
    """One accepted revocation, as the contract defines it, with the ``id`` of its stream entry."""

    id: str | None
    v: int
    kind: Literal["session", "user", "all"]
    iss: str
    cutoff: int
    app: str
    source: str
    received_at: float
    sid: NotRequired[str]
    sub: NotRequired[str]
    jti: NotRequired[str]
    client_ids: NotRequired[list[str]]
    revoke_offline_access: NotRequired[bool]


class ProofMembers(TypedDict):
    """What an app has done about one event."""

    standing: AppStatus
    seen: int
    readers: int
    seconds: float | None


def _event(event: Event) -> EventMembers:
    return {"id": event.id} | event.members()  # type: ignore[return-value]


def _proof(proof: Proof) -> ProofMembers:
    return {
        "standing": proof.status,
        "seen": proof.seen,
        "readers": proof.readers,
        "seconds": proof.seconds,
    }


# Classes of the client package, whose JSON has other names than their attributes.
EventRecord = Annotated[Event, PlainSerializer(_event)]
ProofRecord = Annotated[Proof, PlainSerializer(_proof)]
_ANNOTATED: dict[Any, Any] = {Event: EventRecord, Proof: ProofRecord}


def as_json(record: Any) -> Any:
    """A record, or a sequence of them, as JSON values."""
    if isinstance(record, tuple | list):
        return [as_json(item) for item in record]
    kind: Any = type(record)
    return _adapter(_ANNOTATED.get(kind, kind)).dump_python(record, mode="json")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
