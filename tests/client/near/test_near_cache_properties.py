"""The near cache and its tail against a model, with events in any order.

Redis is a model here, since a real one cannot fail over between two given commands a thousand times
a minute; `test_tail.py` and `test_tail_topologies.py` use real ones. The tests drive the package's
own `NearCache`, `EventReader` and `RevocationChecker`, as `Tail` and the guard do.
"""

import contextlib
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from backchannel_logout import (
    AppKeys,
    Event,
    EventKind,
    GuardMisconfigured,
    MalformedEvent,
    Session,
    UnknownEvent,
    marker_keys,
)
from backchannel_logout.checker import MarkerQuery, RevocationChecker
from backchannel_logout.near.cache import ANSWER_SECONDS, NearCache
from backchannel_logout.near.event_reader import MAX_EVENTS, EventReader, NotThePrimary
from backchannel_logout.near.event_reader import START as BEGINNING

ISS = "https://op.example"
KEYS = AppKeys("shop")
AGE = 3600
MAX_STALE = 5.0
LOOK_UP = MAX_STALE / 3
START = 1_000_000.0

USERS = ["alice", "bob"]
SIDS = ["s1", "s2", "s3"]


def number(entry_id: str) -> tuple[int, int]:
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq)


@dataclass
class Server:
    """The data of one Redis, as the receiver's script writes it."""

    master: bool = True
    meta: bool = True
    markers: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Cutoff, and when it was written."""
    stream: list[tuple[bytes, list[bytes]]] = field(default_factory=list)
    last_id: str = "0-0"
    primary_since: float = START
    behind: float = 0.0
    """How far its clock is behind, which determines its ids."""
    losses: int = 0
    """How often it has lost everything."""

    def write(self, key: str, event: dict[str, str], cutoff: int, now: float) -> None:
        old = self.markers.get(key)
        if old is None or old[0] < cutoff:
            self.markers[key] = (cutoff, now)
        ms, seq = number(self.last_id)
        at = int((now - self.behind) * 1000)
        self.last_id = f"{at}-0" if at > ms else f"{ms}-{seq + 1}"
        fields = [text.encode() for pair in event.items() for text in pair]
        self.stream.append((self.last_id.encode(), fields))

    def copy(self) -> "Server":
        return replace(self, master=False, markers=dict(self.markers), stream=list(self.stream))

    def run(self, command: tuple[Any, ...]) -> Any:
        match command:
            case ("XREAD", "COUNT", count, "STREAMS", _, position):
                new = [one for one in self.stream if number(one[0].decode()) > number(position)]
                return [[KEYS.events.encode(), new[:count]]] if new else None
            case ("XRANGE", *_):
                return self.stream[:1]
            case ("XREVRANGE", *_):
                return self.stream[-1:]
            case ("HGET", _, field):
                return {"max_session_age": str(AGE)}.get(field) if self.meta else None
            case ("ROLE",):
                return [b"master" if self.master else b"slave"]
        raise AssertionError(command)


@dataclass
class PendingQuery:
    """A query in transit: sent, then answered by its server, then delivered."""

    question: MarkerQuery
    fence: int
    server: Server
    markers: list[str | None] | None = None


class NearCacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.primary = Server()
        self.replica = self.primary.copy()
        self.cache = NearCache(4, max_stale=MAX_STALE, clock=lambda: self.now)
        self.reading = RevocationChecker("shop", "deny", None, lambda: self.now)
        self.following = EventReader(KEYS, self.reading, self.cache)
        self.sessions: set[Session] = set()
        self.query: list[PendingQuery] = []
        self.delivered: list[tuple[Server, int, Event]] = []
        """The server, the number of its losses at the read, and the event."""
        # The tail: its server, and its read in transit with the replies.
        self.link: Server | None = None
        self.looked_up_at = START
        self.read: tuple[float, int, list[Any]] | None = None
        self.guards_server = self.primary
        self.hidden: set[str] = set()
        """Markers of logouts that no read can reveal: see `the_stream_is_trimmed`."""

    @initialize()
    def two_users_are_signed_in_and_the_tail_follows(self) -> None:
        for user, sid in zip(USERS, SIDS, strict=False):
            self.sessions.add(Session(ISS, int(self.now), sid=sid, sub=user))
        self.the_tail_connects()

    # -- time, users, the receiver ----------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.0, 2.0, 4.0, 6.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(user=st.sampled_from(USERS), sid=st.sampled_from(SIDS), ago=st.integers(0, 2))
    def somebody_logs_in(self, user: str, sid: str, ago: int) -> None:
        self.sessions.add(Session(ISS, int(self.now) - ago, sid=sid, sub=user))

    @rule(
        kind=st.sampled_from(list(EventKind)),
        user=st.sampled_from(USERS),
        sid=st.sampled_from(SIDS),
        times=st.sampled_from([1, 1, 1, MAX_EVENTS + 1]),
    )
    def a_logout_is_written(self, kind: EventKind, user: str, sid: str, times: int) -> None:
        """``times``: more than the tail reads at once."""
        key = {
            EventKind.SESSION: KEYS.sid(ISS, sid),
            EventKind.USER: KEYS.sub(ISS, user),
            EventKind.ALL: KEYS.all(ISS),
        }[kind]
        self.now += 0.001  # no two things happen at once
        self.hidden.discard(key)
        cutoff = int(self.now)
        event = Event(
            kind=kind, iss=ISS, sid=sid, sub=user, cutoff=cutoff, app="shop", source="test",
            received_at=self.now,
        )  # fmt: skip
        others = replace(event, kind=EventKind.SESSION, sid="nobody's").to_fields()
        for _ in range(times - 1):
            self.primary.write(KEYS.sid(ISS, "nobody's"), others, cutoff, self.now)
        self.primary.write(key, event.to_fields(), cutoff, self.now)
        self.now += 0.001

    @rule(what=st.sampled_from(["kind", "v", "cutoff"]))
    def an_event_comes_that_nobody_understands(self, what: str) -> None:
        """It still ends a session: its marker exists."""
        event = Event(
            kind=EventKind.SESSION, iss=ISS, sid="s1", cutoff=int(self.now), app="shop",
            source="test", received_at=self.now,
        )  # fmt: skip
        fields = event.to_fields() | {what: "another"}
        self.now += 0.001
        self.primary.write(KEYS.sid(ISS, "s1"), fields, int(self.now), self.now)
        self.now += 0.001

    # -- Redis ------------------------------------------------------------------------------

    @rule()
    def the_replica_catches_up(self) -> None:
        self.replica = self.primary.copy()

    @rule(notices=st.booleans())
    def a_failover(self, *, notices: bool) -> None:
        """To a replica that may be behind; the old primary may not notice, and keeps answering."""
        old, self.primary = self.primary, self.replica
        self.primary.master, self.primary.primary_since = True, self.now
        old.master = not notices
        self.replica = self.primary.copy()

    @rule(keep=st.integers(0, 2))
    def the_stream_is_trimmed(self, keep: int) -> None:
        """If a stream was empty for the tail and is emptied before its next read, nothing reveals
        the entries in between. The receiver never empties a stream; other clients may."""
        if not keep and self.primary.stream and self.following.position == BEGINNING:
            self.hidden |= self.primary.markers.keys()
        self.primary.stream = self.primary.stream[len(self.primary.stream) - keep :] if keep else []

    @rule(meta=st.sampled_from([True, True, False]), behind=st.sampled_from([0.0, 100.0]))
    def everything_is_lost(self, *, meta: bool, behind: float) -> None:
        """With ``meta`` the receiver has written again before the next read."""
        server = self.primary
        server.behind = behind
        self.now += 0.001  # an id is never used twice
        server.markers, server.stream, server.last_id, server.meta = {}, [], "0-0", meta
        server.losses += 1

    @precondition(lambda self: not self.primary.meta)
    @rule()
    def the_receiver_writes_meta(self) -> None:
        self.primary.meta = True

    # -- the guard --------------------------------------------------------------------------

    @precondition(lambda self: self.sessions)
    @rule()
    def all_sessions_are_asked_for(self) -> None:
        """At once; the rules below interleave everything else."""
        for session in self.sessions:
            query = PendingQuery(
                self.reading.query([session]), self.cache.fence(), self.guards_server
            )
            self.answer(query)
            self.deliver(query)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def a_question_is_sent(self, data: st.DataObject) -> None:
        ordered = sorted(self.sessions, key=str)
        session = data.draw(st.sampled_from(ordered))
        question = self.reading.query([session])
        self.query.append(PendingQuery(question, self.cache.fence(), self.guards_server))

    @precondition(lambda self: self.query)
    @rule(data=st.data())
    def a_question_is_answered(self, data: st.DataObject) -> None:
        self.answer(data.draw(st.sampled_from(self.query)))

    def answer(self, query: PendingQuery) -> None:
        found = [query.server.markers.get(key) for key in query.question.keys]
        query.markers = [None if one is None else str(one[0]) for one in found]

    @precondition(lambda self: any(one.markers is not None for one in self.query))
    @rule(data=st.data())
    def an_answer_is_delivered(self, data: st.DataObject) -> None:
        query = data.draw(st.sampled_from([one for one in self.query if one.markers is not None]))
        self.query.remove(query)
        self.deliver(query)

    def deliver(self, query: PendingQuery) -> None:
        assert query.markers is not None
        if self.reading.meta.max_session_age:
            dead = self.reading.dead(query.question, query.markers)
            self.reading.keep(query.question, dead, self.cache, query.fence)

    # -- the tail ---------------------------------------------------------------------------

    @rule()
    def the_tail_connects(self) -> None:
        self.looked_up_at = self.now
        self.read = None
        self.link = self.primary
        try:
            self.following.begin([self.link.run(one) for one in self.following.first()])
        except (NotThePrimary, GuardMisconfigured):
            self.disconnect(clear=True)
            return
        self.guards_server = self.link
        self.cache.clear()
        self.cache.contact(self.looked_up_at)

    @rule()
    def the_tail_loses_its_connection(self) -> None:
        self.disconnect(clear=False)

    def disconnect(self, *, clear: bool) -> None:
        self.link = self.read = None
        if clear:
            self.cache.clear()

    @precondition(lambda self: self.link is not None)
    @rule()
    def the_sentinels_are_asked(self) -> None:
        if self.link is self.primary:
            self.looked_up_at = self.now
        else:
            self.disconnect(clear=True)

    @precondition(lambda self: self.link is not None and self.read is None)
    @rule()
    def the_tail_reads(self) -> None:
        self.a_read_is_answered()
        self.a_read_is_delivered()

    @precondition(lambda self: self.link is not None and self.read is None)
    @rule()
    def a_read_is_answered(self) -> None:
        """Sent and executed now; delivered later."""
        assert self.link is not None
        commands = self.following.next(0)
        self.read = (self.now, self.link.losses, [self.link.run(one) for one in commands])

    @precondition(lambda self: self.read is not None)
    @rule()
    def a_read_is_delivered(self) -> None:
        assert self.read is not None
        assert self.link is not None
        sent_at, losses, answers = self.read
        self.read = None
        try:
            more = self.following.process(answers, min(sent_at, self.looked_up_at))
        except (NotThePrimary, GuardMisconfigured):
            self.disconnect(clear=True)
            return
        for _, fields in answers[0][0][1] if answers[0] else []:
            with contextlib.suppress(UnknownEvent, MalformedEvent):
                self.delivered.append((self.link, losses, Event.from_reply(fields)))
        if not more:
            self.nothing_is_kept_that_this_server_calls_dead(sent_at)

    def nothing_is_kept_that_this_server_calls_dead(self, at: float) -> None:
        assert self.link is not None
        for session in self.kept():
            for key in marker_keys(KEYS, session):
                cutoff, since = self.link.markers.get(key, (-1, 0.0))
                assert session.login_at > cutoff or since > at or key in self.hidden, session

    # -- what chance alone brings too seldom ------------------------------------------------

    @precondition(lambda self: self.link is not None and self.read is None and self.sessions)
    @rule(
        order=st.sampled_from(["write read answer", "answer write read", "answer read write"]),
        kind=st.sampled_from(list(EventKind)),
        data=st.data(),
    )
    def a_question_crosses_a_logout(self, order: str, kind: EventKind, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.sessions, key=str)))
        query = PendingQuery(self.reading.query([session]), self.cache.fence(), self.guards_server)
        for step in order.split():
            if step == "write":
                assert session.sid is not None
                assert session.sub is not None
                self.a_logout_is_written(kind, session.sub, session.sid, 1)
            elif step == "read" and self.link is not None:
                self.the_tail_reads()
            elif step == "answer":
                self.answer(query)
        self.deliver(query)

    @precondition(lambda self: self.link is not None and self.read is None)
    @rule(user=st.sampled_from(USERS), sid=st.sampled_from(SIDS), kind=st.sampled_from(EventKind))
    def a_logout_is_trimmed_before_it_is_read(self, user: str, sid: str, kind: EventKind) -> None:
        self.a_logout_is_written(kind, user, sid, 1)
        self.a_logout_is_written(EventKind.SESSION, "nobody", "nobody's", 1)
        self.the_stream_is_trimmed(1)
        self.the_tail_reads()

    # -- what must hold ---------------------------------------------------------------------

    @invariant()
    def no_dead_session_is_alive_beyond_the_bound(self) -> None:
        for session in self.kept():
            for key in marker_keys(KEYS, session):
                cutoff, since = self.primary.markers.get(key, (-1, 0.0))
                if session.login_at <= cutoff:
                    # A marker that a lost primary never had counts from when its successor has it.
                    dead_for = self.now - max(since, self.primary.primary_since)
                    bound = ANSWER_SECONDS if key in self.hidden else MAX_STALE
                    assert dead_for <= bound, (session, dead_for)

    @invariant()
    def nothing_contradicts_an_event_that_was_delivered(self) -> None:
        for session in self.kept():
            for server, losses, event in self.delivered:
                # It may write again what it has lost since, also while the reply was in transit.
                if self.link is not server or losses != server.losses:
                    continue
                if names(event, session) and in_force(server, session):
                    assert session.login_at > event.cutoff, (session, event)

    @invariant()
    def it_is_bounded_and_its_index_has_nothing_else(self) -> None:
        cache = self.cache
        assert cache.size <= 4
        indexed = set[Any]()
        for index in cache._indexes.values():
            for have in index._keys.values():
                indexed |= have if isinstance(have, set) else {have}
        assert indexed == set(cache._alive)

    def kept(self) -> list[Session]:
        return [session for session in self.sessions if self.cache.alive(session)]


def names(event: Event, session: Session) -> bool:
    if event.kind is EventKind.SESSION:
        return event.sid == session.sid
    return event.kind is EventKind.ALL or event.sub == session.sub


def in_force(server: Server, session: Session) -> bool:
    """Redis itself would still answer so; it may have lost its data since."""
    markers = (server.markers.get(key, (-1, 0.0))[0] for key in marker_keys(KEYS, session))
    return any(session.login_at <= cutoff for cutoff in markers)


SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much]

TestNearCacheMachine = NearCacheMachine.TestCase
TestNearCacheMachine.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=SLOW
)


@pytest.mark.slow
def test_many_more_worlds() -> None:
    class Many(NearCacheMachine.TestCase):  # type: ignore[misc,name-defined]
        settings = settings(
            max_examples=600, stateful_step_count=40, deadline=None, suppress_health_check=SLOW
        )

    Many("runTest").runTest()


# -- the same, step by step -------------------------------------------------------------------


@pytest.fixture
def machine() -> NearCacheMachine:
    """Two users are signed in, both known to be alive, and the stream is not empty."""
    machine = NearCacheMachine()
    machine.a_logout_is_written(EventKind.SESSION, "nobody", "nobody's", 1)
    machine.two_users_are_signed_in_and_the_tail_follows()
    machine.all_sessions_are_asked_for()
    assert len(machine.kept()) == 2
    return machine


@pytest.mark.parametrize("kind", EventKind)
def test_an_event_drops_the_sessions_that_it_names(
    machine: NearCacheMachine, kind: EventKind
) -> None:
    machine.a_logout_is_written(kind, "alice", "s1", 1)
    assert len(machine.kept()) == 2
    machine.the_tail_reads()
    assert [one.sid for one in machine.kept()] == ([] if kind is EventKind.ALL else ["s2"])


@pytest.mark.parametrize("order", ["write read answer", "answer write read"])
@pytest.mark.parametrize("what", ["a logout", "an unknown event", "a new connection"])
def test_an_answer_from_before_is_not_kept(
    machine: NearCacheMachine, order: str, what: str
) -> None:
    """The fence: also for an event that may name any session."""
    session = Session(ISS, int(machine.now), sid="s1", sub="carol")
    machine.sessions.add(session)
    query = PendingQuery(
        machine.reading.query([session]), machine.cache.fence(), machine.guards_server
    )
    for step in order.split():
        if step == "write" and what == "a logout":
            machine.a_logout_is_written(EventKind.USER, "somebody", "else", 1)
        elif step == "write" and what == "an unknown event":
            machine.an_event_comes_that_nobody_understands("v")
        elif step == "read":
            (machine.the_tail_connects if what == "a new connection" else machine.the_tail_reads)()
        elif step == "answer":
            machine.answer(query)
    machine.deliver(query)
    assert session not in machine.kept()


@pytest.mark.parametrize("what", ["kind", "v", "cutoff"])
def test_an_unknown_event_drops_every_session(machine: NearCacheMachine, what: str) -> None:
    machine.an_event_comes_that_nobody_understands(what)
    machine.the_tail_reads()
    assert machine.kept() == []


def test_a_trimmed_stream_drops_everybody(machine: NearCacheMachine) -> None:
    machine.a_logout_is_trimmed_before_it_is_read("alice", "s1", EventKind.SESSION)
    assert machine.kept() == []


def test_an_emptied_stream_drops_every_session(machine: NearCacheMachine) -> None:
    machine.a_logout_is_written(EventKind.SESSION, "nobody", "nobody's", 1)
    machine.the_tail_reads()
    machine.a_logout_is_written(EventKind.SESSION, "alice", "s1", 1)
    machine.the_stream_is_trimmed(0)
    machine.the_tail_reads()
    assert machine.kept() == []


def test_each_answer_is_renewed_within_a_minute(machine: NearCacheMachine) -> None:
    """The very first logout of an app, whose stream is emptied before it is read."""
    machine.a_logout_is_written(EventKind.SESSION, "alice", "s1", 1)
    machine.the_stream_is_trimmed(0)
    for _ in range(60):
        machine.time_passes(1.0)
        machine.the_sentinels_are_asked()
        machine.the_tail_reads()
    assert machine.kept() == []


@pytest.mark.parametrize("behind", [0.0, 100.0])
def test_a_recreated_stream_drops_every_session(machine: NearCacheMachine, behind: float) -> None:
    machine.a_logout_is_written(EventKind.SESSION, "nobody", "nobody's", 1)
    machine.the_tail_reads()
    machine.everything_is_lost(meta=True, behind=behind)
    machine.a_logout_is_written(EventKind.SESSION, "alice", "s1", 1)
    machine.the_tail_reads()
    assert machine.kept() == ([] if behind else [one for one in machine.kept() if one.sid == "s2"])
    machine.all_sessions_are_asked_for()
    machine.a_logout_is_written(EventKind.SESSION, "bob", "s2", 1)
    machine.the_tail_reads()
    assert machine.kept() == []


def test_a_read_that_did_not_reach_the_end_is_no_contact(machine: NearCacheMachine) -> None:
    machine.a_logout_is_written(EventKind.SESSION, "alice", "s1", MAX_EVENTS + 1)
    machine.time_passes(MAX_STALE)
    machine.the_tail_reads()
    assert machine.kept() == [], "it may have ended among those that were not read"
    machine.the_sentinels_are_asked()
    machine.the_tail_reads()
    assert [one.sid for one in machine.kept()] == ["s2"]


def test_contact_counts_from_when_the_read_was_sent(machine: NearCacheMachine) -> None:
    machine.a_read_is_answered()
    machine.a_logout_is_written(EventKind.SESSION, "alice", "s1", 1)
    machine.time_passes(MAX_STALE)
    machine.a_read_is_delivered()
    assert machine.kept() == []


def test_contact_counts_from_when_the_sentinels_named_the_server(machine: NearCacheMachine) -> None:
    machine.a_failover(notices=False)
    machine.a_logout_is_written(EventKind.SESSION, "alice", "s1", 1)
    machine.time_passes(MAX_STALE)
    machine.the_tail_reads()  # of the old primary, which does not have it
    assert machine.kept() == []


def test_a_server_that_is_a_replica_now_is_left(machine: NearCacheMachine) -> None:
    machine.a_failover(notices=True)
    machine.the_tail_reads()
    assert machine.link is None
    assert machine.kept() == []


def test_a_redis_that_no_receiver_serves_is_left(machine: NearCacheMachine) -> None:
    machine.everything_is_lost(meta=False, behind=0.0)
    machine.the_tail_reads()
    assert machine.link is None
    assert machine.kept() == []
