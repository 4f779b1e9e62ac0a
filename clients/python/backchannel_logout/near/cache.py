"""Sessions known to be alive, kept in the process for as long as nothing says otherwise. Pure.

Only "alive" is kept, and an answer serves only while three things hold:

* no event since its question was sent has named its session, its user or its issuer;
* the tail was in contact with the primary within ``max_stale`` seconds;
* the answer is younger than `ANSWER_SECONDS`, and the session not older than its app allows.
"""

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from backchannel_logout.contract.event import Event, EventKind
from backchannel_logout.contract.session import MEMBER, Session

ANSWER_SECONDS = 60.0
"""An answer is asked for again after so long, whatever the tail says: what nobody has thought of
ends here."""

# The time that counts while the machine sleeps, too: a laptop that wakes must not believe what it
# knew before.
now: Callable[[], float] = (
    functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)

_NEVER = float("-inf")


class NearCache:
    """At most ``most`` sessions, the least recently used ones go first; for threads, too.

    Who is used is noted once the cache is half full: until then nobody has to go, and the note is
    a fifth of what a check costs. A session that is used is asked for again each minute, anyway.

    ``max_stale`` and ``clock`` are in seconds; the clock need not show the time of day.
    """

    def __init__(self, most: int, *, max_stale: float, clock: Callable[[], float] = now) -> None:
        self._most = most
        self.max_stale = max_stale
        self._clock = clock
        self._lock = threading.Lock()  # of writers; `alive` makes do without
        self._alive: OrderedDict[Session, float] = OrderedDict()
        self._by_sid = _Index()
        self._by_sub = _Index()
        self._issuers: dict[str, str] = {}
        self._serves_until = _NEVER
        self._generation = 0
        self._half_full = False

    @property
    def size(self) -> int:
        """How many sessions it holds."""
        return len(self._alive)

    # -- for the guard ----------------------------------------------------------------------

    def alive(self, session: Session | Mapping[str, Any]) -> bool:
        """Whether the session is known to be alive now. False: ask Redis."""
        try:
            key: Any = session
            if type(session) is not Session:
                one: Any = session
                client_id = None
                if MEMBER in one:
                    one = one[MEMBER]
                    client_id = one.get("client_id")
                # Not `get`, for speed: `remember` stores four of them always.
                key = (
                    one["iss"], one["login_at"], one["sid"], one["sub"],
                    one.get("auth_time"), client_id,
                )  # fmt: skip
            at = self._clock()
            if at >= self._serves_until or at >= self._alive[key]:
                return False
            if self._half_full:
                self._alive.move_to_end(key)
        except (KeyError, TypeError):  # not known, gone just now, or not a session at all
            return False
        return True

    @property
    def in_contact(self) -> bool:
        """Whether the tail was in contact with the primary within ``max_stale``."""
        return self._clock() < self._serves_until

    def fence(self) -> int:
        """To be read before a question is sent, for `put`."""
        return self._generation

    def put(self, session: Session, fence: int, seconds: float) -> None:
        """Keep that a session is alive, for so many seconds at most.

        Nothing is kept where an event has come since ``fence`` was read: it may have named this
        session, and Redis may have answered before it.
        """
        if seconds <= 0:
            return
        with self._lock:
            if fence != self._generation:
                return
            iss = self._issuers.setdefault(session.iss, session.iss)
            key = session._replace(iss=iss)
            if key not in self._alive:
                while len(self._alive) >= self._most:
                    self._unlist(self._alive.popitem(last=False)[0])
                if session.sid is not None:
                    self._by_sid.add((iss, session.sid), key)
                if session.sub is not None:
                    self._by_sub.add((iss, session.sub), key)
            self._alive[key] = self._clock() + min(seconds, ANSWER_SECONDS)
            self._alive.move_to_end(key)
            self._half_full = 2 * len(self._alive) >= self._most

    # -- for the tail -----------------------------------------------------------------------

    def apply(self, events: Iterable[Event]) -> None:
        """Forget whom the events name."""
        with self._lock:
            self._generation += 1
            for event in events:
                if event.kind is EventKind.ALL:
                    self._clear()
                elif event.kind is EventKind.SESSION:
                    for key in self._by_sid.pop((event.iss, event.sid)):
                        self._forget(key)
                else:
                    for key in self._by_sub.pop((event.iss, event.sub)):
                        self._forget(key)

    def clear(self) -> None:
        """Forget everything: something has happened that no event tells."""
        with self._lock:
            self._generation += 1
            self._clear()

    def close(self) -> None:
        """Forget everything, and keep nothing before the next `contact`."""
        self.clear()
        self._serves_until = _NEVER

    def contact(self, at: float) -> None:
        """All that the primary knew then has been applied."""
        self._serves_until = max(self._serves_until, at + self.max_stale)

    # ---------------------------------------------------------------------------------------

    def _clear(self) -> None:
        self._alive.clear()
        self._by_sid.clear()
        self._by_sub.clear()
        self._issuers.clear()

    def _forget(self, key: Session) -> None:
        if self._alive.pop(key, None) is not None:
            self._unlist(key)

    def _unlist(self, key: Session) -> None:
        self._by_sid.discard((key.iss, key.sid), key)
        self._by_sub.discard((key.iss, key.sub), key)


class _Index:
    """From a session id, or a user, to the sessions. Most have one, and a set costs 200 bytes."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str | None], Session | set[Session]] = {}

    def add(self, name: tuple[str, str | None], key: Session) -> None:
        have = self._keys.setdefault(name, key)
        if isinstance(have, set):
            have.add(key)
        elif have != key:
            self._keys[name] = {have, key}

    def discard(self, name: tuple[str, str | None], key: Session) -> None:
        have = self._keys.get(name)
        if isinstance(have, set):
            have.discard(key)
            if not have:
                del self._keys[name]
        elif have == key:
            del self._keys[name]

    def pop(self, name: tuple[str, str | None]) -> tuple[Session, ...]:
        have = self._keys.pop(name, ())
        return tuple(have) if isinstance(have, set) else (have,) if have else ()

    def clear(self) -> None:
        self._keys.clear()
