"""What to ask Redis about sessions, and what an answer means; knows no connection.

Both guards share it, so that threads and asyncio can not come to different decisions.
"""

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

from .connection import Command
from .decision import Verdict, decide, marker_keys, whole_number
from .keys import AppKeys
from .near.cache import NearCache
from .readers import HASH_SECONDS, Reader, ReaderKind
from .session import Session

log = logging.getLogger("backchannel_logout")

# How long the app's max_session_age is believed before it is read again, in seconds. It
# changes when an operator changes the receiver's settings.
META_LIFE = 60.0

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

    Redis refuses the check; or no receiver has served this app in this Redis (a wrong URL,
    password, database, ACL rule or app name, or a Redis that has lost its data); or this guard
    was given a larger ``max_session_age`` than the receiver keeps markers for.
    """


@dataclass(frozen=True, slots=True)
class Question:
    """The sessions of one check, and the marker keys of all of them in a row."""

    sessions: list[Session]
    keys: list[str]
    counts: list[int]


class Reading:
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
        self._meta_until = float("-inf")
        self._tell_from = float("-inf")
        self._may_note = True

    @property
    def meta_is_old(self) -> bool:
        return time.monotonic() >= self._meta_until

    def question(self, sessions: Iterable[AnySession]) -> Question:
        asked = [one if isinstance(one, Session) else Session.from_mapping(one) for one in sessions]
        wanted = [self._marker_keys(one) for one in asked]
        return Question(asked, [key for keys in wanted for key in keys], [*map(len, wanted)])

    def with_meta(self, question: Question, *, single: bool, note: bool) -> list[Command]:
        """What to send when the app's age is to be read, too; ``single``: a marker a command.

        ``note`` adds the report that somebody asks Redis at each check, for who wants to know
        how this app learns of logouts.
        """
        commands: list[Command] = [("MGET", *question.keys)]
        if single:
            commands = [("GET", key) for key in question.keys]
        commands.append(("HGET", self.keys.meta, "max_session_age"))
        if note and self._may_note:
            reader = Reader(name=ReaderKind.ASKS, kind=ReaderKind.ASKS, at=self._clock())
            commands.append(("HSET", self.keys.readers, reader.name, reader.to_json()))
            commands.append(("EXPIRE", self.keys.readers, HASH_SECONDS))
        return commands

    def markers(
        self, answers: Sequence[Any], question: Question, *, single: bool
    ) -> Sequence[bytes | str | None]:
        """The markers' values of the answers to `with_meta`, whose age is taken over.

        Raises what Redis refused, but not that the note was.
        """
        count = len(question.keys) if single else 1
        for answer in answers[: count + 1]:
            if isinstance(answer, Exception):
                raise answer
        if any(isinstance(answer, NoPermissionError) for answer in answers[count + 1 :]):
            self._may_note = False
        self.read_meta(answers[count])
        markers: Sequence[bytes | str | None] = answers[:count] if single else answers[0]
        return markers

    @property
    def max_session_age(self) -> int:
        """In seconds, as it was read last."""
        return self._max_session_age

    def read_meta(self, max_session_age: bytes | str | None) -> None:
        """Take over the ``max_session_age`` of the app's ``meta``."""
        self._meta_until = float("-inf")  # what can not be taken over is asked for at each check
        if max_session_age is None:
            raise GuardMisconfigured(
                f"no receiver has written {self.keys.meta}: "
                "is this the receiver's Redis, and does it serve this app?"
            )
        try:
            age = whole_number(max_session_age)
        except ValueError:
            _unreadable()
        if self._own_age is not None and self._own_age > age:
            raise GuardMisconfigured(
                f"max_session_age is {self._own_age} s here and {age} s in the receiver's "
                "settings: markers would go before the sessions that they end"
            )
        self._max_session_age = age if self._own_age is None else self._own_age
        self._meta_until = time.monotonic() + META_LIFE

    def keep(self, question: Question, dead: Sequence[bool], cache: NearCache, fence: int) -> None:
        """Keep who is alive; ``fence`` is the cache's from before the question was sent."""
        if cache.in_contact:
            for session, is_dead in zip(question.sessions, dead, strict=True):
                if not is_dead:
                    left = session.login_at + self._max_session_age - self._clock()
                    cache.put(session, fence, left)

    def dead(self, question: Question, markers: Sequence[bytes | str | None]) -> list[bool]:
        """Judge each session by its share of the answer."""
        rest, now = iter(markers), self._clock()
        try:
            return [
                decide(
                    session,
                    list(islice(rest, count)),
                    max_session_age=self._max_session_age,
                    now=now,
                )
                is not Verdict.ALIVE
                for session, count in zip(question.sessions, question.counts, strict=True)
            ]
        except ValueError:
            _unreadable()

    def without_answer(self, question: Question, error: Exception) -> list[bool]:
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
            self._tell_from = now + META_LIFE
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
