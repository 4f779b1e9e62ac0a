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
    """The result of an app's check of a session."""

    ALIVE = "alive"
    """No marker covers it."""
    REVOKED = "revoked"
    """A marker covers its login. If the login's time is unknown: every login up to the cutoff is
    dead."""
    EXPIRED = "expired"
    """Older than ``max_session_age``, so dead in any case."""
    UNKNOWN = "unknown"
    """A marker is unreadable, or no receiver has served the app in this Redis: the app's check
    answers 503."""


class Conclusion(StrEnum):
    """The verdict, from worst to best; see `app.history.conclusion`."""

    UNREADABLE = "unreadable"
    """Some app cannot be read from Redis."""
    REFUSED = "refused"
    """A token about it was refused, and no later event ended it."""
    WAITING = "waiting_for_keys"
    """A token about it was answered 503 and waits for the provider's keys."""
    NOT_APPLIED = "not_applied"
    """A token about it was answered 503 long ago, and no later event ended it."""
    GIVEN_UP = "given_up"
    """A listener gave it up as a dead letter."""
    NOT_YET = "not_yet"
    """A reader has not reached it yet."""
    NOT_READ = "not_read"
    """An app has the event and no active reader."""
    ENDED = "ended"
    """A marker ends it; its event is no longer in the stream."""
    COMPLETE = "complete"
    """Every app with an event has acted."""
    LATER_LOGIN = "later_login"
    """The login is later than every marker."""
    NOTHING_KNOWN = "nothing_known"
    """No marker, event or refused token is about it. This does not mean "alive"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationQuery:
    """The subject of a query: a session of ``iss`` (``sid``, and its user's ``sub`` if known), a
    user (``sub`` alone), or everything of the issuer (neither).

    ``login_at`` is the ``iat`` of the login's ID token, in whole seconds; ``auth_time`` is when the
    user signed in at the provider. Both are known if the token was pasted.
    """

    iss: str
    sid: str | None = None
    sub: str | None = None
    login_at: int | None = None
    auth_time: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """An existing marker. ``cutoff`` None: its value is not a number."""

    kind: EventKind
    key: str
    cutoff: int | None
    expires_in: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that a listener gave up. ``id`` is the dead letter's own."""

    id: str
    event: str
    listener: str
    tries: int | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredEvent:
    """An event in the app's stream, and what the app has done about it.

    ``covers``: its marker applies to the query's subject; otherwise it is about one session of the
    user. ``event`` None: it is unreadable.
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
        """Read an entry of the app's stream."""
        try:
            event = Event.from_fields(fields, entry_id)  # type: ignore[arg-type]
        except (UnknownEvent, MalformedEvent):
            return cls(app=app, id=entry_id, event=None, covers=covers)
        return cls(app=app, id=entry_id, event=event, covers=covers)

    @property
    def at(self) -> float:
        """When Redis stored it."""
        return int(self.id.partition("-")[0]) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How far back the stream was searched."""

    entries: int
    ended: str
    """Why it ended. ``start``: the start of the stream, so anything missing is older.
    ``cutoff``: nothing before this time matters. ``limit``: the maximum cost of one query."""
    oldest: float | None
    """When Redis stored the oldest entry that was examined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppHistory:
    """One session or user in one app.

    ``cutoff`` is the highest of the markers. ``cause`` is the event that wrote it, None if the
    stream no longer has it. ``events`` are newest first and include ``cause``. ``lost``: an event
    ended it, but its marker, which should still exist, does not: Redis has lost data.
    ``fault``: one word if Redis did not answer; then nothing else is known.
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

    ``refusals``: tokens about it that were refused or wait for keys, newest first, unless a later
    event ended it. ``refusals_read``: whether they could be searched. ``elsewhere``: other issuers
    that know the id, if this one does not.
    """

    question: RevocationQuery
    conclusion: Conclusion
    apps: tuple[AppHistory, ...]
    refusals: tuple[RefusalEntry, ...] = ()
    refusals_read: bool = True
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A consumer group of the app's stream. ``lag``: entries not delivered to it; unknown in Redis
    6.2, and in any Redis after a trim."""

    name: str
    consumers: int
    pending: int
    lag: int | None
    last_delivered: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOverview:
    """An app at a glance.

    ``readers`` counts, by kind, the readers that reported within a minute; ``silent`` counts the
    others. An app that queries Redis at each check reports with a check, last at ``asked_at``, and
    counts while it is idle. ``reported``: a reader has reported at some time. ``without_sid``:
    issuers whose logout tokens name a ``sid`` that no session of the app has. ``behind``: how many
    entries the slowest active reader has not read, counted up to a thousand. ``teardown_median``
    and ``teardown_slowest`` come from the latest receipts. ``beyond``: what the app has written too
    much of to be read, so its own reports are unknown.
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
        """The number of active readers of any kind."""
        return sum(number for _, number in self.readers)
