"""The hub: whom a revocation ends, since when, until when. Pure; knows no source, no Redis.

Every source builds a `Revocation` with `revoke` and hands it to the writer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar, overload

from backchannel_logout import AppKeys, Event, EventKind
from backchannel_logout.event import json_of

# A session is judged by its own age; this covers clocks that differ, so that a marker never
# goes before the last session that it speaks for.
MARKER_MARGIN_SECONDS = 3600


# There are as many as apps in the settings: nothing of a token is in it.
keys_of = cache(AppKeys)
"""The Redis keys of a relying app."""


class Once(NamedTuple):
    """A message that may come again: its id, and until when it can (epoch seconds)."""

    jti: str
    sid: str | None
    sub: str | None
    until: float


_T = TypeVar("_T")


class derived(Generic[_T]):  # noqa: N801  it reads as the `property` that it is
    """`functools.cached_property` without the lock that it has before Python 3.12."""

    def __init__(self, derive: Callable[[Any], _T]) -> None:
        self._derive = derive
        self._name = derive.__name__
        self.__doc__ = derive.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> "derived[_T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> _T: ...
    def __get__(self, instance: object | None, owner: type) -> "derived[_T] | _T":
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._derive(instance)
        return value


@dataclass(frozen=True)  # without slots: what is derived from it is derived once
class Revocation:
    """In one relying app, whatever logged in at or before ``event.cutoff`` is dead."""

    event: Event
    issuer_names: tuple[str, ...]
    """Every name of the issuer, the event's own first: a marker and an event for each."""
    life: int
    """How long the markers must last, in seconds from now."""
    once: Once | None

    @derived
    def fields(self) -> dict[str, str]:
        """The event as fields of the stream."""
        return self.event.to_fields()

    @derived
    def json(self) -> str:
        """The event as JSON."""
        return json_of(self.fields)

    @derived
    def marker_keys(self) -> tuple[str, ...]:
        """The Redis keys of the markers, in the order of `issuer_names`."""
        keys, event = keys_of(self.event.app), self.event
        match event.kind:
            case EventKind.SESSION if event.sid is not None:
                return tuple(keys.sid(name, event.sid) for name in self.issuer_names)
            case EventKind.USER if event.sub is not None:
                return tuple(keys.sub(name, event.sub) for name in self.issuer_names)
            case _:
                return tuple(keys.all(name) for name in self.issuer_names)

    @property
    def once_key(self) -> str | None:
        """The Redis key that remembers the message, if it is one that may come again."""
        if self.once is None:
            return None
        keys = keys_of(self.event.app)
        return keys.jti(self.issuer_names[0], self.once.jti, self.once.sid, self.once.sub)


def revoke(
    *,
    app: str,
    kind: EventKind,
    issuer_names: tuple[str, ...],
    since: float,
    source: str,
    received_at: float,
    max_session_age: float,
    leeway: float,
    sid: str | None = None,
    sub: str | None = None,
    client_ids: tuple[str, ...] = (),
    once: Once | None = None,
    revoke_offline_access: bool = False,
) -> Revocation:
    """Build a revocation. Times are epoch seconds, ages and leeway seconds.

    ``since`` becomes the cutoff: rounded down, and never later than ``received_at`` plus
    ``leeway``, so that a wrong clock somewhere can not lock a user out for weeks. Raises
    ``ValueError`` when ``kind`` demands a ``sid`` or ``sub`` that is not there.
    """
    if (kind is EventKind.SESSION and not sid) or (kind is EventKind.USER and not sub):
        raise ValueError(f"a revocation of kind {kind.value} must name whom it ends")
    event = Event(
        kind=kind,
        iss=issuer_names[0],
        # A user's event names no session: a reader might take it for that session alone.
        sid=sid if kind is EventKind.SESSION else None,
        sub=sub if kind is not EventKind.ALL else None,
        cutoff=math.floor(min(since, received_at + leeway)),
        app=app,
        source=source,
        received_at=round(received_at, 3),
        client_ids=client_ids,
        jti=once.jti if once else None,
        revoke_offline_access=revoke_offline_access,
    )
    life = math.ceil(max_session_age) + MARKER_MARGIN_SECONDS
    return Revocation(event=event, issuer_names=issuer_names, life=life, once=once)
