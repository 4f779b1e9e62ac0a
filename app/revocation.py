"""A revocation: whose sessions end, up to which login, and for how long to remember it. Pure.

Every source builds a `Revocation` with `revoke` and passes it to the writer. This module knows
neither the sources nor Redis.
"""

import math
from dataclasses import dataclass, field
from functools import cache, lru_cache
from json.encoder import encode_basestring as quoted
from typing import NamedTuple

from backchannel_logout import AppKeys, Event, EventKind
from backchannel_logout.contract.event import list_of
from backchannel_logout.contract.keys import VERSION
from backchannel_logout.contract.kinds import MARKER_KIND

# Covers clock differences, so that no marker expires before the last session that it ends.
MARKER_MARGIN_SECONDS = 3600


# One entry per configured app: the argument never comes from a token.
keys_of = cache(AppKeys)
"""The Redis keys of a relying app."""

spelled = lru_cache(maxsize=64, typed=True)(repr)
"""A time as JSON. Many revocations share one, and each is written three times."""


class Once(NamedTuple):
    """A message that can be repeated: its id, and until when (epoch seconds)."""

    jti: str
    sid: str | None
    sub: str | None
    until: float


@dataclass(frozen=True, slots=True, eq=False)
class Heading:
    """The part that the revocations of one source for one app share, with its JSON.

    `heading_of` caches it, which takes a third off the cost of a revocation on the hot path
    (docs/performance.md).
    """

    app: str
    kind: EventKind
    issuer_names: tuple[str, ...]
    """Every name of the issuer, the event's own first; each gets a marker and an event."""
    source: str
    client_ids: tuple[str, ...]
    life: int
    """How long the markers must exist, in seconds."""
    revoke_offline_access: bool
    keys: AppKeys = field(init=False)
    json: tuple[str, str, str] = field(init=False)
    """The event's JSON: before the subject, between cutoff and ``received_at``, and at the end."""

    def __post_init__(self) -> None:
        named = f',"client_ids":{list_of(self.client_ids)}' if self.client_ids else ""
        json = (
            f'{{"v":{VERSION},"kind":"{self.kind.value}","iss":{quoted(self.issuer_names[0])},',
            f'"app":{quoted(self.app)},"source":{quoted(self.source)},"received_at":',
            named,
        )
        object.__setattr__(self, "keys", keys_of(self.app))
        object.__setattr__(self, "json", json)

    def marker_keys(self, sid: str | None, sub: str | None) -> tuple[str, ...]:
        """The Redis keys of the markers, in the order of `issuer_names`."""
        claim = MARKER_KIND[self.kind].claim
        value = (sid if claim == "sid" else sub if claim == "sub" else None) or ""
        return tuple([self.keys.marker(self.kind, name, value) for name in self.issuer_names])


# As many as configured clients, sources and kinds. Enum members are bound because attribute lookup
# on an enum is slow.
heading_of = lru_cache(maxsize=1024)(Heading)
_SESSION, _USER, _ALL = EventKind.SESSION, EventKind.USER, EventKind.ALL


@dataclass(slots=True, eq=False)
class Revocation:
    """In one app, every login at or before ``cutoff`` is dead. Treat it as immutable.

    Every logout creates one, so the shared part is in the heading, what every write needs is
    computed once, and the event is built on demand.
    """

    heading: Heading
    sid: str | None
    sub: str | None
    cutoff: int
    """Epoch seconds."""
    received_at: float
    """Epoch seconds, to the millisecond."""
    jti: str | None
    once: Once | None
    marker_keys: tuple[str, ...] = field(init=False)
    """The Redis keys of the markers, in the order of `issuer_names`."""
    once_key: str | None = field(init=False)
    """The Redis key that remembers the message, if it can be repeated."""
    json: str = field(init=False)
    """The event as JSON, equal to `Event.to_json`, without building the event."""
    _event: Event | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        heading, sid, sub, jti, once = self.heading, self.sid, self.sub, self.jti, self.once
        before, between, end = heading.json
        subject = "" if sid is None else f'"sid":{quoted(sid)},'
        if sub is not None:
            subject += f'"sub":{quoted(sub)},'
        if jti is not None:
            end += f',"jti":{quoted(jti)}'
        if heading.revoke_offline_access:
            end += ',"revoke_offline_access":true'
        at = spelled(self.received_at)
        self.json = f'{before}{subject}"cutoff":{self.cutoff},{between}{at}{end}}}'
        self.marker_keys = heading.marker_keys(sid, sub)
        self.once_key = (
            None
            if once is None
            else heading.keys.jti(heading.issuer_names[0], once.jti, once.sid, once.sub)
        )

    @classmethod
    def of(
        cls, event: Event, *, issuer_names: tuple[str, ...], life: int, once: Once | None
    ) -> "Revocation":
        """The revocation that ``event`` describes."""
        heading = heading_of(
            event.app, event.kind, issuer_names, event.source, event.client_ids, life,
            event.revoke_offline_access,
        )  # fmt: skip
        return cls(heading, event.sid, event.sub, event.cutoff, event.received_at, event.jti, once)

    @property
    def app(self) -> str:
        return self.heading.app

    @property
    def kind(self) -> EventKind:
        return self.heading.kind

    @property
    def event(self) -> Event:
        """The event that readers get."""
        if self._event is None:
            heading = self.heading
            self._event = Event(
                kind=heading.kind,
                iss=heading.issuer_names[0],
                sid=self.sid,
                sub=self.sub,
                cutoff=self.cutoff,
                app=heading.app,
                source=heading.source,
                received_at=self.received_at,
                client_ids=heading.client_ids,
                jti=self.jti,
                revoke_offline_access=heading.revoke_offline_access,
            )
        return self._event

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Revocation) and self._members() == other._members()

    def __hash__(self) -> int:
        return hash(self._members())

    def _members(self) -> tuple[object, ...]:
        return self.event, self.heading.issuer_names, self.heading.life, self.once


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

    ``since`` becomes the cutoff: rounded down, and at most ``received_at`` plus ``leeway``, so that
    a wrong clock cannot lock a user out for weeks. Raises ``ValueError`` when ``kind`` requires a
    missing ``sid`` or ``sub``.
    """
    if (kind is _SESSION and not sid) or (kind is _USER and not sub):
        raise ValueError(f"a revocation of kind {kind.value} must name whom it ends")
    life = math.ceil(max_session_age) + MARKER_MARGIN_SECONDS
    return Revocation(
        heading_of(app, kind, issuer_names, source, client_ids, life, revoke_offline_access),
        # A user's event names no session, or a reader might end only that one.
        sid if kind is _SESSION else None,
        sub if kind is not _ALL else None,
        math.floor(min(since, received_at + leeway)),
        math.floor(received_at * 1000 + 0.5) / 1000,  # faster than `round`
        once.jti if once else None,
        once,
    )
