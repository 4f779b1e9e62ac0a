"""What to query in Redis about sessions, and what the replies mean. Opens no connection.

Both guards use it, so that threads and asyncio cannot come to different decisions.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Literal, TypeVar

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

from backchannel_logout.contract.decision import Value, Verdict, decide, marker_keys, sid_marker
from backchannel_logout.contract.keys import AppKeys
from backchannel_logout.contract.readers import MAX_ISSUERS, QUERY_REPORT_SECONDS, query_report
from backchannel_logout.contract.session import Session
from backchannel_logout.guard_errors import GuardMisconfigured, RevocationUnknown, unreadable_value
from backchannel_logout.near.cache import NearCache
from backchannel_logout.receiver_meta import ReceiverMeta
from backchannel_logout.redis.pipeline import Command

log = logging.getLogger("backchannel_logout")

# Seconds between two log lines about an outage during which sessions count as alive.
_LOG_PAUSE = 60.0

# About 500 bytes each.
_CACHED_KEYS = 8192

OnOutage = Literal["deny", "allow"]
AnySession = Session | Mapping[str, Any]
S = TypeVar("S", bound=AnySession)


@dataclass(frozen=True, slots=True)
class MarkerQuery:
    """The sessions of one check, and the marker keys of all of them in a row.

    ``counts`` has the number of keys of each session. ``with_names``: it also reads for which
    issuers and clients the app is served.
    """

    sessions: list[Session]
    keys: list[str]
    counts: list[int]
    with_names: bool = False


class RevocationChecker:
    """Makes the commands of a check and judges the replies."""

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
        # The same sessions are checked again and again, and hashing is half of a check.
        self._marker_keys = lru_cache(_CACHED_KEYS)(partial(marker_keys, self.keys))
        self._on_outage = on_outage
        self._clock = clock
        self.meta = ReceiverMeta(self.keys, max_session_age)
        self._next_outage_log = float("-inf")
        self._logged_missing_sid = False
        self._may_report = True
        self._next_report = float("-inf")
        self.sid: dict[str, bool] = {}
        """For each issuer of a checked session: whether one of its sessions had a ``sid``."""

    # -- the query -------------------------------------------------------------------------

    def query(self, sessions: Iterable[AnySession]) -> MarkerQuery:
        checked = [
            session if isinstance(session, Session) else Session.from_mapping(session)
            for session in sessions
        ]
        for session in checked:
            if session.sid is not None or session.iss not in self.sid:
                self._note_sid(session)
            elif self.sid[session.iss]:
                self._log_missing_sid(session.iss)
        keys_of_each = [self._marker_keys(session) for session in checked]
        keys = [key for keys in keys_of_each for key in keys]
        return MarkerQuery(checked, keys, [*map(len, keys_of_each)], self.meta.is_due(checked))

    def _note_sid(self, session: Session) -> None:
        if session.iss in self.sid or len(self.sid) < MAX_ISSUERS:
            self.sid[session.iss] = session.sid is not None

    def _log_missing_sid(self, iss: str) -> None:
        """Once: claims that an app assembled itself, or those of another token, often lack it."""
        if not self._logged_missing_sid:
            self._logged_missing_sid = True
            log.warning(
                "a session of %s has no sid, and others of it have one: a logout of that session "
                "alone will not end it. Pass all claims of the ID token to remember(); this is "
                "logged once",
                iss,
            )

    def commands(self, query: MarkerQuery, *, single: bool, report: bool) -> list[Command]:
        """What to send; ``single``: one command per marker.

        ``meta`` is read with each check: a Redis that returned without its data has lost markers
        too, and must not make any session alive. ``report`` adds, once a minute, the report that
        this app asks Redis at each check.
        """
        commands: list[Command] = [("MGET", *query.keys)]
        if single:
            commands = [("GET", key) for key in query.keys]
        commands += self.meta.commands if query.with_names else self.meta.commands[:1]
        if report and self._may_report and time.monotonic() >= self._next_report:
            commands += query_report(self.keys.readers, self._clock(), self.sid)
        return commands

    # -- the replies -----------------------------------------------------------------------

    def markers(
        self, replies: Sequence[Any], query: MarkerQuery, *, single: bool
    ) -> Sequence[Value]:
        """The markers' values in the replies to `commands`; ``meta`` is stored.

        Raises an error reply, except to the report; `GuardMisconfigured` when no receiver serves
        the app for the issuer of one of the sessions.
        """
        count = len(query.keys) if single else 1
        end = count + (len(self.meta.commands) if query.with_names else 1)
        needed, reported = replies[:end], replies[end:]
        for reply in needed:
            if isinstance(reply, Exception):
                raise reply
        if reported:
            self._next_report = time.monotonic() + QUERY_REPORT_SECONDS
            self._may_report = not any(isinstance(r, NoPermissionError) for r in reported)
        if query.with_names:
            self.meta.read(*replies[count:end])
        else:
            self.meta.read_age(replies[count])
        self.meta.check_served(query.sessions)
        markers: Sequence[Value] = replies[:count] if single else replies[0]
        return markers

    def keep(self, query: MarkerQuery, dead: Sequence[bool], cache: NearCache, fence: int) -> None:
        """Keep the sessions that are alive; ``fence`` is the cache's before the query was sent."""
        if cache.in_contact:
            for session, is_dead in zip(query.sessions, dead, strict=True):
                if not is_dead:
                    left = session.login_at + self.meta.max_session_age - self._clock()
                    cache.put(session, fence, left)

    def dead(self, query: MarkerQuery, markers: Sequence[Value]) -> list[bool]:
        """Judge each session by its share of the markers."""
        rest, now = iter(markers), self._clock()
        dead = []
        try:
            for session, count in zip(query.sessions, query.counts, strict=True):
                own = list(islice(rest, count))
                verdict = decide(
                    session,
                    own,
                    max_session_age=self.meta.max_session_age,
                    now=now,
                    sid_marker=sid_marker(session, own),
                )
                dead.append(verdict is not Verdict.ALIVE)
        except ValueError:
            # Someone wrote a marker for this session: an unreadable one is not an outage.
            unreadable_value()
        return dead

    def without_answer(self, query: MarkerQuery, error: Exception) -> list[bool]:
        """The verdicts without a reply of Redis. A wrong setting never counts as an outage."""
        if isinstance(error, _REFUSED) and not isinstance(error, _PASSING):
            raise GuardMisconfigured(f"Redis refuses the check: {type(error).__name__}") from error
        if self._on_outage == "allow":
            self._log_outage(error)
            return [False] * len(query.sessions)
        raise RevocationUnknown(
            f"Redis did not say whether the session is dead: {type(error).__name__}"
        ) from error

    def _log_outage(self, error: Exception) -> None:
        now = time.monotonic()
        if now >= self._next_outage_log:
            self._next_outage_log = now + _LOG_PAUSE
            log.error("no answer from Redis (%s): sessions count as alive", type(error).__name__)


NO_ANSWER = (RedisError, RedisClusterException, OSError)
"""What a check can raise without a reply. redis-py's time-outs are among the first, asyncio's among
the last; a Cluster client without any server raises the second."""

# These end on their own. Any other error of the server itself (no permission, a Cluster node behind
# a plain URL, no such database, a key of another type) stays until someone acts.
_PASSING = (BusyLoadingError, ClusterDownError, MasterDownError, ReadOnlyError, TryAgainError)
_REFUSED = (AuthenticationError, AuthenticationWrongNumberOfArgsError, ResponseError)
