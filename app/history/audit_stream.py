"""Entries of the two streams outside any app: refused tokens, and administrators' acts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from app.errors import Outage
from app.history.app_reader import text

WAITS = Outage.KEYS_UNAVAILABLE.value
"""The reason of a token that was answered 503, because the issuer's keys were unavailable, and that
waits for them if there is room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalEntry:
    """A token that was refused, or `waits`. Missing and unknown members are None.

    ``reason`` is a code of `app.errors.Reason`, or `WAITS`; ``rule`` is its sentence; ``aud`` is
    JSON. Users and sessions are keyed hashes. ``verified``: the issuer signed it; otherwise anyone
    may have written its content.
    """

    id: str
    at: float | None = None
    reason: str = ""
    rule: str | None = None
    iss: str | None = None
    aud: str | None = None
    alg: str | None = None
    typ: str | None = None
    kid: str | None = None
    iat: str | None = None
    exp: str | None = None
    jti_hash: str | None = None
    sid_hash: str | None = None
    sub_hash: str | None = None
    request_id: str | None = None
    verified: bool = False

    @property
    def waits(self) -> bool:
        """Whether it was answered 503 and may still be applied."""
        return self.reason == WAITS

    @classmethod
    def from_fields(cls, entry_id: str, fields: Mapping[bytes, bytes]) -> Self:
        """Read an entry, without fields that this release does not know."""
        known = _known(cls, fields)
        at, verified = _number(known.pop("at", None)), known.pop("verified", "") == "1"
        return cls(id=entry_id, at=at, verified=verified, **known)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """An act, or a look-up of a user's sessions, as `app.audit` wrote it."""

    id: str
    at: float | None = None
    act: str = ""
    who: str = ""
    who_iss: str | None = None
    why: str | None = None
    outcome: str | None = None
    iss: str | None = None
    apps: tuple[str, ...] = ()
    kind: str | None = None
    sid_hash: str | None = None
    sub_hash: str | None = None
    jti: str | None = None
    peer: str | None = None
    request_id: str | None = None

    @classmethod
    def from_fields(cls, entry_id: str, fields: Mapping[bytes, bytes]) -> Self:
        """Read an entry, without fields that this release does not know."""
        known = _known(cls, fields)
        at, apps = _number(known.pop("at", None)), _list(known.pop("apps", None))
        return cls(id=entry_id, at=at, apps=apps, **known)


def _known(record: type, fields: Mapping[bytes, bytes]) -> dict[str, str]:
    names = record.__dataclass_fields__.keys() - {"id"}  # type: ignore[attr-defined]
    texts = {text(name): text(value) for name, value in fields.items()}
    return {name: value for name, value in texts.items() if name in names}


def _number(value: str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def _list(value: str | None) -> tuple[str, ...]:
    try:
        items = json.loads(value or "[]")
    except ValueError:
        return ()
    return tuple(item for item in items if isinstance(item, str)) if isinstance(items, list) else ()
