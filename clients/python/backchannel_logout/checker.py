"""What to ask Redis about sessions, and what an answer means; knows no connection.

Both guards share it, so that threads and asyncio can not come to different decisions.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Literal, NoReturn, TypeVar

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from backchannel_logout.contract.decision import (
    Verdict,
    decide,
    marker_keys,
    sid_marker,
    whole_number,
)
from backchannel_logout.contract.keys import AppKeys
from backchannel_logout.contract.readers import MAX_ISSUERS, QUERY_REPORT_SECONDS, query_report
from backchannel_logout.contract.session import Session
from backchannel_logout.near.cache import NearCache
from backchannel_logout.redis.connection import Command

log = logging.getLogger("backchannel_logout")

# How long it is believed for which issuers and clients the app is served before it is read again.
# Beside it, each check that meets another issuer asks.
NAMES_SECONDS = 60.0

# Seconds between two lines of the log about an outage that is allowed.
_TELL_EVERY = 60.0

# About 500 bytes each.
_CACHED_KEYS = 8192

OnOutage = Literal["deny", "allow"]
AnySession = Session | Mapping[str, Any]
S = TypeVar("S", bound=AnySession)


class RevocationUnknown(Exception):
    """Redis did not answer in time: nobody knows whether the session is dead.

    Answer 503 and keep the session: its user has not been signed out. With
    ``on_outage="allow"`` only raised for an answer that can not be read.
    """


class GuardMisconfigured(RevocationUnknown):
    """No answer can come until somebody acts; raised with ``on_outage="allow"`` too.

    Redis refuses the check; or no receiver serves this app in this Redis (a wrong URL, password,
    database, ACL rule or app name, or a Redis that has lost its data); or no receiver serves it for
    the session's issuer (another app's name, or an issuer that the settings do not have under this
    app); or this guard was given a larger ``max_session_age`` than the receiver keeps markers for.
    """


@dataclass(frozen=True, slots=True)
class MarkerQuery:
    """The sessions of one check, and the marker keys of all of them in a row.

    ``asks_names``: whether it also asks for which issuers and clients the app is served.
    """

    sessions: list[Session]
    keys: list[str]
    counts: list[int]
    asks_names: bool = False


class RevocationChecker:
    """What to ask and what the answer means; knows no connection."""

    def __init__(
        self,
        app: str,
        on_outage: OnOutage,
        max_session_age: int | None,
        clock: Callable[[], float],
    ) -> None:
        if on_outage not in ("deny", "allow"):
            raise ValueError('on_outage is "deny" or "allow"')
        self.keys = AppKeys(app)
        # The same sessions are asked about again and again; the hashes are half of a check.
        self._marker_keys = lru_cache(_CACHED_KEYS)(partial(marker_keys, self.keys))
        self._on_outage = on_outage
        self._own_age = max_session_age
        self._clock = clock
        self._max_session_age = 0
        self._issuers: frozenset[str] | None = None
        self._names_until = float("-inf")
        self._age_read: bytes | str | None = None
        self._issuers_read: bytes | str | None = None
        self._client_ids: frozenset[str] | None = None
        self._client_ids_read: bytes | str | None = None
        self._tell_from = float("-inf")
        self._told_missing_sid = False
        self._may_note = True
        self._note_from = float("-inf")
        self.sid: dict[str, bool] = {}
        """For each issuer of a session that was asked about: whether one of them had a ``sid``."""
        self.meta_commands: list[Command] = [
            # Not one HMGET: guards have no right to it in the ACL rules of earlier releases.
            ("HGET", self.keys.meta, "max_session_age"),
            ("HGET", self.keys.meta, "issuers"),
            ("HGET", self.keys.meta, "client_ids"),
        ]

    def question(self, sessions: Iterable[AnySession]) -> MarkerQuery:
        asked = [one if isinstance(one, Session) else Session.from_mapping(one) for one in sessions]
        wanted = [self._marker_keys(one) for one in asked]
        for one in asked:
            if one.sid is not None or one.iss not in self.sid:
                self._note_sid(one)
            elif self.sid[one.iss]:
                self._tell_missing_sid(one.iss)
        keys = [key for some in wanted for key in some]
        return MarkerQuery(asked, keys, [*map(len, wanted)], self._must_ask_names(asked))

    def _must_ask_names(self, sessions: Sequence[Session]) -> bool:
        """Once a minute, and where one is not known to be served: it may have been added."""
        if time.monotonic() >= self._names_until:
            return True
        return not all(map(self._is_served, sessions))

    def _is_served(self, session: Session) -> bool:
        """Whether logouts of this issuer and client reach the app, by what was read last."""
        if self._issuers is not None and session.iss not in self._issuers:
            return False
        return (
            session.client_id is None
            or self._client_ids is None
            or session.client_id in self._client_ids
        )

    def _note_sid(self, session: Session) -> None:
        if session.iss in self.sid or len(self.sid) < MAX_ISSUERS:
            self.sid[session.iss] = session.sid is not None

    def _tell_missing_sid(self, iss: str) -> None:
        """Once: claims that were put together by hand, or another token's, often lack it."""
        if not self._told_missing_sid:
            self._told_missing_sid = True
            log.warning(
                "a session of %s has no sid, and others of it have one: a logout of that session "
                "alone will not end it. Pass all claims of the ID token to remember(); this is "
                "said once",
                iss,
            )

    def commands(self, question: MarkerQuery, *, single: bool, note: bool) -> list[Command]:
        """What to send; ``single``: a marker a command.

        ``meta`` goes with each check: a Redis that came back without its data has lost markers,
        too, and must not make anybody alive. ``note`` adds, once a minute, the report that this app
        asks Redis at each check.
        """
        commands: list[Command] = [("MGET", *question.keys)]
        if single:
            commands = [("GET", key) for key in question.keys]
        commands += self.meta_commands if question.asks_names else self.meta_commands[:1]
        if note and self._may_note and time.monotonic() >= self._note_from:
            commands += query_report(self.keys.readers, self._clock(), self.sid)
        return commands

    def markers(
        self, answers: Sequence[Any], question: MarkerQuery, *, single: bool
    ) -> Sequence[bytes | str | None]:
        """The markers' values of the answers to `commands`, whose ``meta`` is taken over.

        Raises what Redis refused, but not that the note was; `GuardMisconfigured` where no receiver
        serves the app for the issuer of one of the sessions.
        """
        count = len(question.keys) if single else 1
        end = count + (len(self.meta_commands) if question.asks_names else 1)
        needed, noted = answers[:end], answers[end:]
        for answer in needed:
            if isinstance(answer, Exception):
                raise answer
        if noted:
            self._note_from = time.monotonic() + QUERY_REPORT_SECONDS
            self._may_note = not any(isinstance(one, NoPermissionError) for one in noted)
        self._read_age(answers[count])
        if question.asks_names:
            self._read_served(answers[count + 1], answers[count + 2])
        for session in question.sessions:
            if not self._is_served(session):
                self._refuse(session)
        markers: Sequence[bytes | str | None] = answers[:count] if single else answers[0]
        return markers

    def _refuse(self, session: Session) -> NoReturn:
        """No logout will ever reach this session: it must not be taken for alive."""
        whose, served, what = session.iss, self._issuers, "issuer"
        if served is None or session.iss in served:
            whose, served, what = str(session.client_id), self._client_ids, "client"
        named = ", ".join(map(repr, sorted(served or ())[:MAX_ISSUERS]))
        raise GuardMisconfigured(
            f"the session is of {whose!r}, and the receiver serves the app {self.keys.app!r} "
            f"for: {named or 'nobody'}. Is {self.keys.app!r} this app's own name, and do the "
            f"receiver's settings have this {what} with it?"
        )

    @property
    def max_session_age(self) -> int:
        """In seconds, as it was read last."""
        return self._max_session_age

    @property
    def meta(self) -> tuple[object, object, object]:
        """The answers to `meta_commands` that hold now, to be compared."""
        return self._age_read, self._issuers_read, self._client_ids_read

    def read_meta(
        self,
        max_session_age: bytes | str | None,
        issuers: bytes | str | None,
        client_ids: bytes | str | None,
    ) -> None:
        """Take over what the app's ``meta`` holds: the answers to `meta_commands`."""
        self._read_age(max_session_age)
        self._read_served(issuers, client_ids)

    def _read_age(self, found: bytes | str | None) -> None:
        if found is None:
            raise GuardMisconfigured(
                f"no receiver has written {self.keys.meta}: "
                "is this the receiver's Redis, and does it serve this app?"
            )
        if found == self._age_read:  # as nearly always; only what is right is noted there
            return
        try:
            age = whole_number(found)
        except ValueError:
            _unreadable()
        if self._own_age is not None and self._own_age > age:
            raise GuardMisconfigured(
                f"max_session_age is {self._own_age} s here and {age} s in the receiver's "
                "settings: markers would go before the sessions that they end"
            )
        self._max_session_age = age if self._own_age is None else self._own_age
        self._age_read = found

    def _read_served(self, issuers: bytes | str | None, client_ids: bytes | str | None) -> None:
        """Receivers of earlier releases write neither: then every issuer and client is served."""
        if issuers != self._issuers_read:
            self._issuers = None if issuers is None else self._names(issuers, "issuers")
            self._issuers_read = issuers
        if client_ids != self._client_ids_read:
            self._client_ids = None if client_ids is None else self._names(client_ids, "client_ids")
            self._client_ids_read = client_ids
        self._names_until = time.monotonic() + NAMES_SECONDS

    def _names(self, value: bytes | str, field: str) -> frozenset[str]:
        try:
            names = json.loads(value)
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise RevocationUnknown(f"{self.keys.meta} holds {field} that are not a list of names")
        return frozenset(names)

    def keep(
        self, question: MarkerQuery, dead: Sequence[bool], cache: NearCache, fence: int
    ) -> None:
        """Keep who is alive; ``fence`` is the cache's from before the question was sent."""
        if cache.in_contact:
            for session, is_dead in zip(question.sessions, dead, strict=True):
                if not is_dead:
                    left = session.login_at + self._max_session_age - self._clock()
                    cache.put(session, fence, left)

    def dead(self, question: MarkerQuery, markers: Sequence[bytes | str | None]) -> list[bool]:
        """Judge each session by its share of the answer."""
        rest, now = iter(markers), self._clock()
        dead = []
        try:
            for session, count in zip(question.sessions, question.counts, strict=True):
                own = list(islice(rest, count))
                verdict = decide(
                    session,
                    own,
                    max_session_age=self._max_session_age,
                    now=now,
                    sid_marker=sid_marker(session, own),
                )
                dead.append(verdict is not Verdict.ALIVE)
        except ValueError:
            _unreadable()
        return dead

    def without_answer(self, question: MarkerQuery, error: Exception) -> list[bool]:
        """The verdicts where Redis gave none. A wrong setting is never taken for an outage."""
        if isinstance(error, _REFUSED) and not isinstance(error, _PASSING):
            raise GuardMisconfigured(f"Redis refuses the check: {type(error).__name__}") from error
        if self._on_outage == "allow":
            self._tell_outage(error)
            return [False] * len(question.sessions)
        raise RevocationUnknown(
            f"Redis did not say whether the session is dead: {type(error).__name__}"
        ) from error

    def _tell_outage(self, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._tell_from:
            self._tell_from = now + _TELL_EVERY
            log.error("no answer of Redis (%s): sessions count as alive", type(error).__name__)


# The library's own time-outs are among the first, asyncio's among the last; what a Cluster
# client raises while no server answers is neither.
NO_ANSWER = (RedisError, RedisClusterException, OSError)

# What passes by itself. Any other error that the server itself answers (no permission, a Cluster
# node asked by a plain URL, no such database, a key of another type) stays until somebody acts.
_PASSING = (BusyLoadingError, ClusterDownError, MasterDownError, ReadOnlyError, TryAgainError)
_REFUSED = (AuthenticationError, AuthenticationWrongNumberOfArgsError, ResponseError)


def _unreadable() -> NoReturn:
    # Somebody wrote a marker for this session; that it says nothing is no outage.
    raise RevocationUnknown("Redis holds a value that is not a number")
