"""Sessions known to be alive, kept in the process until an event or a deadline drops them. Pure.

Only "alive" is kept, and an answer serves only while three conditions hold:

* no event since its query was sent has named its session, its user or its issuer;
* the tail was in contact with the primary within ``max_stale`` seconds;
* the answer is younger than `ANSWER_SECONDS`, and the session not older than its app allows.
"""

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from backchannel_logout.contract.event import Event
from backchannel_logout.contract.kinds import MARKER_KIND, MARKER_KINDS
from backchannel_logout.contract.session import MEMBER, Session

ANSWER_SECONDS = 60.0
"""The longest life of an answer, whatever the tail reads: a safety net."""

# A clock that runs while the machine sleeps: a laptop that wakes must not use what it knew before.
now: Callable[[], float] = (
    functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)

_NEVER = float("-inf")

S = TypeVar("S", bound=Session | Mapping[str, Any])

_INDEXED = tuple(row for row in MARKER_KINDS if row.claim is not None)


DEFAULT_SESSIONS = 50_000
"""Some 40 MB when the cache is full."""


def cache_size(near_cache: bool | int, max_stale: float) -> int:
    """A guard's option ``near_cache`` as a number of sessions. Raises ``ValueError``."""
    if near_cache < 0 or not max_stale > 0:
        raise ValueError("near_cache is a number of sessions, max_stale a number of seconds")
    return DEFAULT_SESSIONS if near_cache is True else int(near_cache)


def uncached(sessions: Iterable[S], cache: "NearCache | None") -> list[S]:
    """The sessions that the cache does not know to be alive."""
    if cache is None:
        return list(sessions)
    return [session for session in sessions if not cache.alive(session)]


class NearCache:
    """At most ``max_sessions``, the least recently used ones are dropped first. Thread-safe.

    Use is tracked once the cache is half full: before that nothing is dropped for room, and
    tracking costs a fifth of a check. A session in use is queried again each minute anyway.

    ``max_stale`` and ``clock`` are in seconds; the clock need not show the time of day.
    """

    def __init__(
        self, max_sessions: int, *, max_stale: float, clock: Callable[[], float] = now
    ) -> None:
        self._max_sessions = max_sessions
        self.max_stale = max_stale
        self._clock = clock
        self._lock = threading.Lock()  # for writers; `alive` needs none
        self._alive: OrderedDict[Session, float] = OrderedDict()
        self._indexes = {row.kind: _Index() for row in _INDEXED}
        self._issuers: dict[str, str] = {}
        self._serves_until = _NEVER
        self._generation = 0
        self._half_full = False

    @property
    def size(self) -> int:
        """The number of sessions it holds."""
        return len(self._alive)

    # -- for the guard ----------------------------------------------------------------------

    def alive(self, session: Session | Mapping[str, Any]) -> bool:
        """Whether the session is known to be alive now. False: query Redis."""
        try:
            key: Any = session
            if type(session) is not Session:
                members: Any = session
                client_id = None
                if MEMBER in members:
                    members = members[MEMBER]
                    client_id = members.get("client_id")
                # Not `get`, for speed: `remember` always stores these four.
                key = (
                    members["iss"], members["login_at"], members["sid"], members["sub"],
                    members.get("auth_time"), client_id,
                )  # fmt: skip
            at = self._clock()
            if at >= self._serves_until or at >= self._alive[key]:
                return False
            if self._half_full:
                self._alive.move_to_end(key)
        except (KeyError, TypeError):  # unknown, just dropped, or not a session at all
            return False
        return True

    @property
    def in_contact(self) -> bool:
        """Whether the tail was in contact with the primary within ``max_stale``."""
        return self._clock() < self._serves_until

    def fence(self) -> int:
        """Read it before sending a query, for `put`."""
        return self._generation

    def put(self, session: Session, fence: int, seconds: float) -> None:
        """Keep that a session is alive, for up to this many seconds.

        Keeps nothing if an event has arrived since ``fence`` was read: it may have named this
        session, and Redis may have replied before it.
        """
        if seconds <= 0:
            return
        with self._lock:
            if fence != self._generation:
                return
            iss = self._issuers.setdefault(session.iss, session.iss)
            key = session._replace(iss=iss)
            if key not in self._alive:
                while len(self._alive) >= self._max_sessions:
                    self._remove_from_indexes(self._alive.popitem(last=False)[0])
                for row in _INDEXED:
                    if (value := row.value(key)) is not None:
                        self._indexes[row.kind].add((iss, value), key)
            self._alive[key] = self._clock() + min(seconds, ANSWER_SECONDS)
            self._alive.move_to_end(key)
            self._half_full = 2 * len(self._alive) >= self._max_sessions

    # -- for the tail -----------------------------------------------------------------------

    def apply(self, events: Iterable[Event]) -> None:
        """Drop the sessions that the events name."""
        with self._lock:
            self._generation += 1
            for event in events:
                row = MARKER_KIND[event.kind]
                if row.claim is None:
                    self._clear()
                    continue
                for key in self._indexes[row.kind].pop((event.iss, row.value(event))):
                    if self._alive.pop(key, None) is not None:
                        self._remove_from_indexes(key)

    def clear(self) -> None:
        """Drop everything, after something that no event reports."""
        with self._lock:
            self._generation += 1
            self._clear()

    def close(self) -> None:
        """Drop everything, and serve nothing before the next `contact`."""
        self.clear()
        self._serves_until = _NEVER

    def contact(self, at: float) -> None:
        """Everything that the primary had at this time has been applied."""
        self._serves_until = max(self._serves_until, at + self.max_stale)

    # ---------------------------------------------------------------------------------------

    def _clear(self) -> None:
        self._alive.clear()
        self._issuers.clear()
        for index in self._indexes.values():
            index.clear()

    def _remove_from_indexes(self, key: Session) -> None:
        for row in _INDEXED:
            self._indexes[row.kind].discard((key.iss, row.value(key)), key)


class _Index:
    """From a session id or a user to the sessions. Most have one; a set would cost 200 bytes."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str | None], Session | set[Session]] = {}

    def add(self, name: tuple[str, str | None], key: Session) -> None:
        known = self._keys.setdefault(name, key)
        if isinstance(known, set):
            known.add(key)
        elif known != key:
            self._keys[name] = {known, key}

    def discard(self, name: tuple[str, str | None], key: Session) -> None:
        known = self._keys.get(name)
        if isinstance(known, set):
            known.discard(key)
            if not known:
                del self._keys[name]
        elif known == key:
            del self._keys[name]

    def pop(self, name: tuple[str, str | None]) -> tuple[Session, ...]:
        known = self._keys.pop(name, ())
        return tuple(known) if isinstance(known, set) else (known,) if known else ()

    def clear(self) -> None:
        self._keys.clear()
