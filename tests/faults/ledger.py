"""The verdict: each acknowledged token has a marker and an event, and no other session is dead."""

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from redis.exceptions import RedisClusterException, RedisError

from backchannel_logout import AppKeys, Event, RevocationUnknown, Session, SessionGuard
from backchannel_logout.redis import connection
from tests.faults.load import Entry
from tests.faults.tokens import SentToken
from tests.faults.wire import GARBLED, RESET

APP = "shop"

# Sessions per query to Redis.
_AT_ONCE = 500

_NOT_NOW = (RedisError, RedisClusterException, RevocationUnknown, OSError)


@dataclass
class Verdict:
    """What happened under one fault; times in seconds."""

    fault: str
    seed: int
    sent: int = 0
    answered: dict[str, int] = field(default_factory=dict)
    """Requests by status."""
    errors: dict[str, int] = field(default_factory=dict)
    """Requests without an answer, by the way they ended."""
    acknowledged: int = 0
    """Tokens that got 200 at least once."""
    lost: int = 0
    """Acknowledged, and no marker or no event."""
    wrongly_dead: int = 0
    wrong_answers: int = 0
    duplicates: int = 0
    """Events beyond one per token: allowed, readers recognize them by the members."""
    first_200: float | None = None
    """From the end of the fault to the first request that was sent after it and got 200."""
    caught_up: float | None = None
    """From the end of the fault until all that was acknowledged before stood in Redis."""
    median: float = 0
    slowest: float = 0
    lag: float = 0
    """What of it may be the load's own doing."""
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def resets(self) -> int:
        return self.errors.get(RESET, 0)

    @property
    def unavailable(self) -> int:
        """Answers of 503."""
        return self.answered.get("503", 0)

    def members(self) -> dict[str, Any]:
        return asdict(self)


def acknowledged(entries: Iterable[Entry]) -> list[SentToken]:
    """Each valid token that got 200, once."""
    tokens = {entry.sent.jti: entry.sent for entry in entries if entry.answer.status == 200}
    return list(tokens.values())


def count_answers(verdict: Verdict, entries: Sequence[Entry], tolerated: Collection[str]) -> None:
    """Count what can be counted without Redis."""
    verdict.sent = len(entries)
    answers = [entry.answer for entry in entries]
    verdict.answered = dict(Counter(str(a.status) for a in answers if a.status))
    verdict.errors = dict(Counter(a.error for a in answers if a.error))
    verdict.wrong_answers = len(wrong_answers(entries, tolerated))
    verdict.acknowledged = len(acknowledged(entries))
    times = [entry.seconds for entry in entries if entry.answer.status]
    verdict.median, verdict.slowest = statistics.median(times), max(times)


def wrong_answers(entries: Iterable[Entry], tolerated: Collection[str]) -> list[Entry]:
    """Answers that do not fit the token that was sent."""
    return [entry for entry in entries if _is_wrong(entry, tolerated)]


def _is_wrong(entry: Entry, tolerated: Collection[str]) -> bool:
    """Whether this answer belongs to another request, or fits none."""
    answer, flaw = entry.answer, entry.sent.flaw
    match answer.status:
        case 0:
            return answer.error == GARBLED
        case 200:
            return bool(flaw) or bool(answer.reason)
        case 400:
            return answer.reason != flaw and answer.reason not in tolerated
        case 503:
            return not answer.reason
    return True


def survivors(entries: Sequence[Entry]) -> list[Session]:
    """Sessions that no valid token of the ledger has ended."""
    valid = [entry.sent for entry in entries if not entry.sent.flaw]
    newest: dict[tuple[str | None, str | None], SentToken] = {}
    for sent in valid:
        names = (sent.sid, None) if sent.sid else (None, sent.sub)
        if names not in newest or newest[names].iat < sent.iat:
            newest[names] = sent
    newer = [
        Session(iss=sent.iss, sid=sent.sid, sub=sent.sub, login_at=sent.iat + 1)
        for sent in newest.values()
    ]
    only_refused = _only_refused(entries)
    named = [
        Session(iss=sent.iss, sid=sent.sid, sub=sent.sub, login_at=sent.iat)
        for sent in only_refused
    ]
    return newer + named + [sent.neighbour for sent in (*valid, *only_refused)]


def _only_refused(entries: Sequence[Entry]) -> list[SentToken]:
    """Tokens that must not end a session: with a flaw, or valid and answered 400 each time. Of the
    latter, only those whose session no other token names.
    """
    answered: dict[str, set[int]] = {}
    named: Counter[tuple[str | None, str | None]] = Counter()
    tokens: dict[str, SentToken] = {}
    for entry in entries:
        answered.setdefault(entry.sent.jti, set()).add(entry.answer.status)
        tokens[entry.sent.jti] = entry.sent
    for sent in tokens.values():
        named[sent.names] += 1
    return [
        sent
        for jti, sent in tokens.items()
        if sent.flaw or (answered[jti] == {400} and named[sent.names] == 1)
    ]


class RedisState:
    """The state of Redis, as a relying app sees it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def missing(self, wanted: Sequence[SentToken]) -> list[SentToken] | None:
        """Those without a marker or an event; None while Redis does not answer."""
        try:
            events = self._events()
            alive = self._alive([sent.ended for sent in wanted])
        except _NOT_NOW:
            return None
        return [
            sent
            for sent, lives in zip(wanted, alive, strict=True)
            if lives or (sent.jti, *sent.names) not in events
        ]

    def dead(self, sessions: Sequence[Session]) -> int:
        """The number of these sessions that a relying app would end."""
        return self._alive(sessions).count(False)

    def duplicates(self) -> int:
        events = self._events()
        return sum(events.values()) - len(events)

    def _events(self) -> Counter[tuple[str | None, str | None, str | None]]:
        client = connection.connect(self._url, timeout=5)
        try:
            entries: Any = client.xrange(AppKeys(APP).events)
        finally:
            connection.close(client)
        events = [Event.from_fields(fields, entry_id) for entry_id, fields in entries]
        return Counter((event.jti, event.sid, event.sub) for event in events)

    def _alive(self, sessions: Sequence[Session]) -> list[bool]:
        alive: list[bool] = []
        with SessionGuard(self._url, app=APP, timeout=5) as guard:
            for start in range(0, len(sessions), _AT_ONCE):
                batch = sessions[start : start + _AT_ONCE]
                dead = set(guard.which_revoked(batch))
                alive += [session not in dead for session in batch]
        return alive
