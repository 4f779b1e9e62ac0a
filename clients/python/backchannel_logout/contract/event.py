"""One accepted revocation: an entry of the app's stream, and JSON on its Pub/Sub channel."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, Self

from backchannel_logout.contract.keys import VERSION
from backchannel_logout.contract.kinds import MARKER_KIND, EventKind


def stream_id(text: str | bytes) -> tuple[int, int]:
    """The id of a stream entry as numbers, which compare in the order of the stream.

    Raises ``ValueError`` for anything else.
    """
    ms, dash, number = _text(text).partition("-")
    if not (dash and ms.isdecimal() and number.isdecimal() and ms.isascii() and number.isascii()):
        raise ValueError("not the id of a stream entry")
    return int(ms), int(number)


def json_of(fields: Mapping[str, str]) -> str:
    """`Event.to_json`, from the result of `Event.to_fields`."""
    members = [
        f'"{name}":{value if name in _NOT_STRINGS else encode_basestring(value)}'
        for name, value in fields.items()
    ]
    return "{" + ",".join(members) + "}"


to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Encodes a value as in an event. Made once: ``json.dumps`` makes an encoder at each call."""


@lru_cache(maxsize=1024)  # the tokens of an issuer have the same few
def list_of(client_ids: tuple[str, ...]) -> str:
    """``client_ids`` as in an event."""
    return to_json(client_ids)


class UnknownEvent(ValueError):
    """A ``kind`` or ``v`` that this release does not know: drop every cached answer, ask Redis."""


class MalformedEvent(ValueError):
    """An event that lacks a required member, or has one of a wrong type.

    It may have ended any session: drop every cached answer, as for `UnknownEvent`.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A revocation, as readers receive it. Times are epoch seconds; ``cutoff`` is an integer.

    ``id`` is the stream entry's id. A reader may receive an event twice, with another id: compare
    the other members.
    """

    kind: EventKind
    iss: str
    cutoff: int
    app: str
    source: str
    received_at: float
    sid: str | None = None
    sub: str | None = None
    jti: str | None = None
    client_ids: tuple[str, ...] = ()
    revoke_offline_access: bool = False
    id: str | None = None

    def members(self) -> dict[str, Any]:
        """The event's members as JSON values, without absent ones and without ``id``."""
        return {
            name: _parsed(value) if name in _NOT_STRINGS else value
            for name, value in self.to_fields().items()
        }

    def to_json(self) -> str:
        """The members as one JSON object, without ``id``, which the script adds."""
        return json_of(self.to_fields())

    def to_fields(self) -> dict[str, str]:
        """The members as fields of a stream entry: all values are strings.

        Written out, with `repr` for numbers, which equals their JSON: this is the path of every
        logout.
        """
        fields = {"v": _V, "kind": self.kind.value, "iss": self.iss}
        if self.sid is not None:
            fields["sid"] = self.sid
        if self.sub is not None:
            fields["sub"] = self.sub
        fields["cutoff"] = repr(self.cutoff)
        fields["app"] = self.app
        fields["source"] = self.source
        fields["received_at"] = repr(self.received_at)
        if self.client_ids:
            fields["client_ids"] = list_of(self.client_ids)
        if self.jti is not None:
            fields["jti"] = self.jti
        if self.revoke_offline_access:
            fields["revoke_offline_access"] = "true"
        return fields

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse a message of the channel. Raises `UnknownEvent` or `MalformedEvent`."""
        try:
            members = _parsed(text)
        except (ValueError, RecursionError):
            raise MalformedEvent("not JSON") from None
        if not isinstance(members, dict):
            raise MalformedEvent("not a JSON object")
        return cls._read(members)

    @classmethod
    def from_fields(
        cls, fields: Mapping[str | bytes, str | bytes], entry_id: str | bytes | None = None
    ) -> Self:
        """Parse a stream entry. Raises `UnknownEvent` or `MalformedEvent`."""
        try:
            members: dict[str, Any] = {
                name if type(name) is str else _text(name): (
                    value if type(value) is str else _text(value)
                )
                for name, value in fields.items()
            }
            # Before the rest is parsed: another version may encode it differently.
            if members.get("v", _V) == _V:
                for name in _NOT_STRINGS & members.keys():
                    members[name] = _value(members[name])
        except (ValueError, RecursionError):
            raise MalformedEvent("an unreadable field") from None
        if entry_id is not None:
            members["id"] = _text(entry_id)
        return cls._read(members)

    @classmethod
    def from_reply(cls, fields: Sequence[bytes], entry_id: str | bytes | None = None) -> Self:
        """Parse a stream entry as Redis sends it: names and values in turn."""
        return cls.from_fields(dict(zip(fields[::2], fields[1::2], strict=False)), entry_id)

    @classmethod
    def _read(cls, members: Mapping[str, Any]) -> Self:
        kind = _known_kind(members)
        claim = MARKER_KIND[kind].claim
        for name, types, required in _TYPES:
            value = members.get(name, _ABSENT)
            if type(value) in types:
                continue
            if value is not _ABSENT or required or name == claim:
                raise MalformedEvent(name)
        client_ids = members.get("client_ids", [])
        if not all(isinstance(client_id, str) for client_id in client_ids):
            raise MalformedEvent("client_ids")
        try:
            received_at = float(members["received_at"])
        except OverflowError:
            raise MalformedEvent("received_at") from None
        return cls(
            kind=kind,
            iss=members["iss"],
            cutoff=members["cutoff"],
            app=members["app"],
            source=members["source"],
            received_at=received_at,
            sid=members.get("sid"),
            sub=members.get("sub"),
            jti=members.get("jti"),
            client_ids=tuple(client_ids),
            revoke_offline_access=members.get("revoke_offline_access") is True,
            id=members.get("id"),
        )


_TYPES: tuple[tuple[str, tuple[type, ...], bool], ...] = (
    ("iss", (str,), True),
    ("cutoff", (int,), True),
    ("app", (str,), True),
    ("source", (str,), True),
    ("received_at", (float, int), True),
    ("sid", (str,), False),
    ("sub", (str,), False),
    ("jti", (str,), False),
    ("id", (str,), False),
    ("client_ids", (list,), False),
)
"""The types of each member, and whether it is required. A bool is none of these types."""

_ABSENT = object()

_V = str(VERSION)

_NOT_STRINGS = frozenset({"v", "cutoff", "received_at", "client_ids", "revoke_offline_access"})


def _known_kind(members: Mapping[str, Any]) -> EventKind:
    if "v" not in members:
        raise MalformedEvent("v")
    if members["v"] != VERSION or isinstance(members["v"], bool):
        raise UnknownEvent("v")
    if "kind" not in members:
        raise MalformedEvent("kind")
    try:
        return EventKind(members["kind"])
    except ValueError:
        raise UnknownEvent("kind") from None


def _parsed(text: str | bytes) -> Any:
    """JSON as other languages parse it: no NaN, and no number too large for a float."""
    return _DECODER.decode(_text(text))


def _value(text: str) -> Any:
    """A field that is not a string; most are whole numbers, which need no parser."""
    if text.isdecimal() and text.isascii() and (text[0] != "0" or text == "0"):
        return int(text)
    return _parsed(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


_DECODER = json.JSONDecoder(parse_constant=_finite, parse_float=_finite)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value
