"""The records that `History` returns. Pure.

Times are epoch seconds, lengths of time are seconds; None is unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from app.history.audit_stream import RefusalEntry
from app.history.record_json import EventRecord, ProofRecord
from backchannel_logout import Event, EventKind, MalformedEvent, UnknownEvent


class State(StrEnum):
    """What an app's check says of a session."""

    ALIVE = "alive"
    """No marker covers it."""
    REVOKED = "revoked"
    """A marker covers its login; where the login's time is not known: whatever logged in at or
    before the cutoff is dead."""
    EXPIRED = "expired"
    """Older than ``max_session_age``: dead, whatever happened."""
    UNKNOWN = "unknown"
    """A marker can not be read, or no receiver has served the app in this Redis: the app's check
    says 503."""


class Conclusion(StrEnum):
    """What follows from all that is known, the worst first; see `app.history.conclusion`."""

    UNREADABLE = "unreadable"
    """Not every app can be read from Redis."""
    REFUSED = "refused"
    """A token about it was refused, and no end of it is newer."""
    WAITING = "waiting_for_keys"
    """A token about it was answered 503 and waits for the provider's keys."""
    NOT_APPLIED = "not_applied"
    """A token about it was answered 503 long ago, and no end of it is newer."""
    GIVEN_UP = "given_up"
    """A listener has given it up: a dead letter."""
    NOT_YET = "not_yet"
    """Somebody reads and has not come to it."""
    NOT_READ = "not_read"
    """An app was told, and nobody reads there now."""
    ENDED = "ended"
    """A marker ends it; the event is older than the stream holds."""
    COMPLETE = "complete"
    """Every app that was told has acted."""
    LATER_LOGIN = "later_login"
    """The login is later than every marker."""
    NOTHING_KNOWN = "nothing_known"
    """No marker, no event and no refused token is about it; this is not "alive"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationQuery:
    """Whom it is about: a session of ``iss`` (``sid``, with its user's ``sub`` where known), or a
    user (``sub`` alone), or whatever is the issuer's (neither).

    ``login_at`` is the ``iat`` of the login's ID token, in whole seconds, and ``auth_time`` when
    the user had signed in at the provider; both are known where the token was pasted.
    """

    iss: str
    sid: str | None = None
    sub: str | None = None
    login_at: int | None = None
    auth_time: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """A marker that is there. ``cutoff`` None: its value is no number."""

    kind: EventKind
    key: str
    cutoff: int | None
    expires_in: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that a listener has given up. ``id`` is that of the dead letter."""

    id: str
    event: str
    listener: str
    tries: int | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredEvent:
    """An event that the app was told, and what the app has done about it.

    ``covers``: its marker speaks for whom the question is about; else it is about one session of
    the user. ``event`` None: it can not be read.
    """

    app: str
    id: str
    event: EventRecord | None
    covers: bool = True
    proof: ProofRecord | None = None
    dead_letters: tuple[DeadLetter, ...] = ()

    @classmethod
    def read(
        cls, app: str, entry_id: str, fields: Mapping[bytes, bytes], *, covers: bool = True
    ) -> Self:
        """An entry of the app's stream."""
        try:
            event = Event.from_fields(fields, entry_id)  # type: ignore[arg-type]
        except (UnknownEvent, MalformedEvent):
            return cls(app=app, id=entry_id, event=None, covers=covers)
        return cls(app=app, id=entry_id, event=event, covers=covers)

    @property
    def at(self) -> float:
        """When Redis took it."""
        return int(self.id.partition("-")[0]) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How far back the stream was looked through."""

    entries: int
    ended: str
    """Where it ended. ``start``: of the stream, so what is not found is older than it holds.
    ``cutoff``: at the time before which nothing can matter. ``limit``: of one question's cost."""
    oldest: float | None
    """When Redis took the oldest entry that was looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppHistory:
    """One session or user in one app.

    ``cutoff`` is the highest of the markers, and ``cause`` the event that wrote it, None where the
    stream holds it no more. ``events``: the newest first, ``cause`` among them. ``lost``: an event
    ended it, and its marker, which should be there, is not: Redis has lost data.
    ``fault``: one word where Redis did not answer; then nothing else is known.
    """

    app: str
    state: State = State.UNKNOWN
    max_session_age: int | None = None
    markers: tuple[Marker, ...] = ()
    cutoff: int | None = None
    cause: DeliveredEvent | None = None
    events: tuple[DeliveredEvent, ...] = ()
    search: Search | None = None
    lost: bool = False
    fault: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionHistory:
    """One session or user, in every app of its issuer.

    ``refusals``: tokens about it that were refused or wait for keys, newest first, where no end of
    it is newer; ``refusals_read``: whether they could be looked for. ``elsewhere``: other issuers
    that know the id, where this one does not.
    """

    question: RevocationQuery
    conclusion: Conclusion
    apps: tuple[AppHistory, ...]
    refusals: tuple[RefusalEntry, ...] = ()
    refusals_read: bool = True
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A consumer group of the app's stream. ``lag``: entries that it has not been given; Redis 6.2
    does not say it, nor any Redis after a trim."""

    name: str
    consumers: int
    pending: int
    lag: int | None
    last_delivered: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOverview:
    """An app at a glance.

    ``readers`` counts, by kind, those that have reported within a minute, ``silent`` those that
    have not. An app that asks at each check reports beside one, last ``asked_at``, and counts while
    it is idle. ``reported``: somebody has, ever. ``without_sid``: issuers whose logout tokens name
    a ``sid`` that no session of the app has. ``behind`` is how many entries the active reader that
    is furthest back has not read, counted up to a thousand. ``teardown_median`` and
    ``teardown_slowest`` are of the last receipts.
    ``beyond``: the app has written more than anybody reads, and this is what; so nothing of it is
    known.
    """

    app: str
    max_session_age: int | None = None
    events: int = 0
    last_event: DeliveredEvent | None = None
    readers: tuple[tuple[str, int], ...] = ()
    silent: int = 0
    asked_at: float | None = None
    reported: bool = False
    without_sid: tuple[str, ...] = ()
    behind: int | None = None
    groups: tuple[Group, ...] = ()
    receipts: int = 0
    teardown_median: float | None = None
    teardown_slowest: float | None = None
    dead_letters: int = 0
    last_dead_letter: float | None = None
    beyond: str | None = None
    fault: str | None = None

    @property
    def active(self) -> int:
        """Readers of any kind whose report stands."""
        return sum(number for _, number in self.readers)
