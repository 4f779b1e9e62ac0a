"""What is noted outside any app's slot: refusals, and the acts of administrators."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from app.errors import Outage
from app.history.app_reader import text

REFUSED = "bcl:v1:refused"
"""The stream of refused tokens; capped by who writes it."""

WAITS = Outage.KEYS_UNAVAILABLE.value
"""The reason of a token that was not refused: it was answered 503, for want of the issuer's keys,
and waits for them where there is room."""

AUDIT = "bcl:v1:audit"
"""The stream of what administrators did, and at whose sessions they looked (`app.audit`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalEntry:
    """A token that was refused, or `waits`; what it did not hold, or is not known, is None.

    ``reason`` is the code of `app.errors.Reason`, or `WAITS`; ``rule`` its sentence; ``aud`` is
    JSON.
    Users and sessions only as keyed hashes. ``verified``: the issuer had signed it; else all of
    it is what anybody may have written.
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
        """Whether it was answered 503 and may yet be applied."""
        return self.reason == WAITS

    @classmethod
    def from_fields(cls, entry_id: str, fields: Mapping[bytes, bytes]) -> Self:
        """Read an entry; fields that this release does not know are left out."""
        known = _known(cls, fields)
        at, verified = _number(known.pop("at", None)), known.pop("verified", "") == "1"
        return cls(id=entry_id, at=at, verified=verified, **known)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """An act, or a look at a user's sessions, as `app.audit` has written it."""

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
        """Read an entry; fields that this release does not know are left out."""
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
        found = json.loads(value or "[]")
    except ValueError:
        return ()
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()
