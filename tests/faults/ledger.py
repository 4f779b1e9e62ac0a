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
from tests.faults.tokens import Facts
from tests.faults.wire import GARBLED, RESET

APP = "shop"

# Sessions in one question to Redis.
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
        """Answers 503."""
        return self.answered.get("503", 0)

    def members(self) -> dict[str, Any]:
        return asdict(self)


def acknowledged(entries: Iterable[Entry]) -> list[Facts]:
    """Each honest token that got 200, once."""
    found = {one.facts.jti: one.facts for one in entries if one.answer.status == 200}
    return list(found.values())


def count_answers(verdict: Verdict, entries: Sequence[Entry], tolerated: Collection[str]) -> None:
    """Everything that can be said without asking Redis."""
    verdict.sent = len(entries)
    answers = [one.answer for one in entries]
    verdict.answered = dict(Counter(str(a.status) for a in answers if a.status))
    verdict.errors = dict(Counter(a.error for a in answers if a.error))
    verdict.wrong_answers = len(wrong_answers(entries, tolerated))
    verdict.acknowledged = len(acknowledged(entries))
    times = [one.seconds for one in entries if one.answer.status]
    verdict.median, verdict.slowest = statistics.median(times), max(times)


def wrong_answers(entries: Iterable[Entry], tolerated: Collection[str]) -> list[Entry]:
    """Answers that do not fit the token that was sent."""
    return [one for one in entries if _is_wrong(one, tolerated)]


def _is_wrong(entry: Entry, tolerated: Collection[str]) -> bool:
    """Whether this is the answer to another request, or an invention."""
    answer, flaw = entry.answer, entry.facts.flaw
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
    """Sessions that no honest token of the ledger has ended."""
    honest = [one.facts for one in entries if not one.facts.flaw]
    newest: dict[tuple[str | None, str | None], Facts] = {}
    for facts in honest:
        whom = (facts.sid, None) if facts.sid else (None, facts.sub)
        if whom not in newest or newest[whom].iat < facts.iat:
            newest[whom] = facts
    later = [
        Session(iss=one.iss, sid=one.sid, sub=one.sub, login_at=one.iat + 1)
        for one in newest.values()
    ]
    only_refused = _only_refused(entries)
    named = [
        Session(iss=one.iss, sid=one.sid, sub=one.sub, login_at=one.iat) for one in only_refused
    ]
    return later + named + [one.neighbour for one in (*honest, *only_refused)]


def _only_refused(entries: Sequence[Entry]) -> list[Facts]:
    """Tokens that must end nobody: with a flaw, or honest and answered 400 each time; of the
    latter only those whose session no other token names."""
    answered: dict[str, set[int]] = {}
    named: Counter[tuple[str | None, str | None]] = Counter()
    facts_of: dict[str, Facts] = {}
    for one in entries:
        answered.setdefault(one.facts.jti, set()).add(one.answer.status)
        facts_of[one.facts.jti] = one.facts
    for facts in facts_of.values():
        named[facts.whom] += 1
    return [
        facts
        for jti, facts in facts_of.items()
        if facts.flaw or (answered[jti] == {400} and named[facts.whom] == 1)
    ]


class Truth:
    """What stands in Redis, seen as a relying app sees it."""

    def __init__(self, url: str) -> None:
        self._url = url

    def missing(self, wanted: Sequence[Facts]) -> list[Facts] | None:
        """Those without a marker or an event; None while Redis does not say."""
        try:
            told = self._events()
            alive = self._alive([one.ended for one in wanted])
        except _NOT_NOW:
            return None
        return [
            one
            for one, lives in zip(wanted, alive, strict=True)
            if lives or (one.jti, *one.whom) not in told
        ]

    def dead(self, sessions: Sequence[Session]) -> int:
        """How many of them a relying app would end."""
        return self._alive(sessions).count(False)

    def duplicates(self) -> int:
        told = self._events()
        return sum(told.values()) - len(told)

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
                asked = sessions[start : start + _AT_ONCE]
                dead = set(guard.which_revoked(asked))
                alive += [one not in dead for one in asked]
        return alive
