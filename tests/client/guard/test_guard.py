"""The guards against a real Redis: which sessions are dead, alive, or unknown."""

import asyncio
import itertools
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from backchannel_logout import (
    AppKeys,
    AsyncSessionGuard,
    GuardMisconfigured,
    Reader,
    ReaderKind,
    RevocationUnknown,
    Session,
    SessionGuard,
    SessionNotIdentified,
    remember,
)
from tests.support.servers.redis_server import RedisServer, free_port

OP = "https://op.example/"
LOGIN = int(time.time()) - 600
AGE = 30 * 86400
ALICE = Session(OP, LOGIN, sid="sid-1", sub="alice")
NEIGHBOUR = Session(OP, LOGIN, sid="sid-2", sub="bob")
# Short, because tests wait for it; a local Redis answers a thousand times faster.
TIMEOUT = 0.25


class BlockingGuard:
    """One sync interface to both kinds of guards."""

    def __init__(self, kind: str, url: str, app: str, **options: Any) -> None:
        self.guard: Any
        if kind == "async":
            self._runner = asyncio.Runner()
            self.guard = AsyncSessionGuard(url, app=app, **options)
        else:
            self._runner = None
            self.guard = SessionGuard(url, app=app, **options)

    def is_revoked(self, session: Session | Mapping[str, Any]) -> bool:
        answer = self.guard.is_revoked(session)
        return self._runner.run(answer) if self._runner else answer

    def report_is_due(self) -> None:
        """As if a minute had passed."""
        self.guard._checker._next_report = float("-inf")

    def close(self) -> None:
        if self._runner:
            self._runner.run(self.guard.aclose())
            self._runner.close()
        else:
            self.guard.close()


NewGuard = Callable[..., BlockingGuard]

numbers = itertools.count()


@pytest.fixture
def app() -> str:
    """An app name that is unique on the shared server."""
    return f"guarded-{next(numbers)}"


@pytest.fixture(params=["sync", "async"])
def new_guard(request: pytest.FixtureRequest, app: str) -> Iterator[NewGuard]:
    askers: list[BlockingGuard] = []

    def new(url: str, **options: Any) -> BlockingGuard:
        askers.append(BlockingGuard(request.param, url, options.pop("app", app), **options))
        return askers[-1]

    yield new
    for asker in askers:
        asker.close()


def serve_app(server: RedisServer, app: str, age: int = AGE) -> redis.Redis:
    """A client of a Redis in which a receiver serves the app."""
    client = server.client()
    client.hset(AppKeys(app).meta, mapping={"v": "1", "max_session_age": str(age)})
    return client


@pytest.fixture
def store(shared_redis: RedisServer, app: str) -> Iterator[redis.Redis]:
    with serve_app(shared_redis, app) as client:
        yield client


# -- alive and dead ------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_a_session_without_a_marker_is_alive(
    new_guard: NewGuard, shared_redis: RedisServer
) -> None:
    assert new_guard(shared_redis.url).is_revoked(ALICE) is False


MARKERS: dict[str, Callable[[AppKeys], str]] = {
    "its session id": lambda keys: keys.sid(OP, "sid-1"),
    "its user": lambda keys: keys.sub(OP, "alice"),
    "its issuer": lambda keys: keys.all(OP),
}


@pytest.mark.parametrize("marker", MARKERS.values(), ids=MARKERS)
def test_a_marker_ends_the_session_and_a_later_login_lives(
    marker: Callable[[AppKeys], str],
    new_guard: NewGuard,
    app: str,
    shared_redis: RedisServer,
    store: redis.Redis,
) -> None:
    guard = new_guard(shared_redis.url)
    store.set(marker(AppKeys(app)), LOGIN)
    assert guard.is_revoked(ALICE) is True
    assert guard.is_revoked(Session(OP, LOGIN + 1, sid="sid-1", sub="alice")) is False


NEIGHBOURS = {
    "another session of the same user": ("its session id", Session(OP, LOGIN, "sid-2", "alice")),
    "the same user without a session id": ("its session id", Session(OP, LOGIN, sub="alice")),
    "another user": ("its user", Session(OP, LOGIN, "sid-3", "bob")),
    "another user under the same session id": ("its user", Session(OP, LOGIN, "sid-1", "bob")),
    "another issuer": ("its issuer", Session("https://op.example", LOGIN, "sid-1", "alice")),
}


@pytest.mark.parametrize(("marker", "neighbour"), NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_the_neighbour_lives(
    marker: str,
    neighbour: Session,
    new_guard: NewGuard,
    app: str,
    shared_redis: RedisServer,
    store: redis.Redis,
) -> None:
    """One session has ended, and another one is checked with it."""
    guard = new_guard(shared_redis.url)
    store.set(MARKERS[marker](AppKeys(app)), LOGIN)
    assert guard.is_revoked(ALICE) is True
    assert guard.is_revoked(neighbour) is False


def test_another_app_keeps_its_session(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    serve_app(shared_redis, f"{app}-wiki").close()
    store.set(AppKeys(app).sid(OP, "sid-1"), LOGIN)
    assert new_guard(shared_redis.url).is_revoked(ALICE) is True
    assert new_guard(shared_redis.url, app=f"{app}-wiki").is_revoked(ALICE) is False


def test_the_stored_member_alone_can_be_checked(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    session: dict[str, Any] = {"cart": 1}
    remember(session, {"iss": OP, "sub": "alice", "sid": "sid-1", "iat": LOGIN + 0.9})
    by_itself = {"iss": OP, "sub": "alice", "sid": "sid-1", "login_at": LOGIN}
    of_an_earlier_release = {"cart": 1, **by_itself}
    guard = new_guard(shared_redis.url, near_cache=0)
    for one in (session, by_itself, of_an_earlier_release):
        assert guard.is_revoked(one) is False
    store.set(AppKeys(app).sid(OP, "sid-1"), LOGIN)
    for one in (session, by_itself, of_an_earlier_release):
        assert guard.is_revoked(one) is True


def test_a_code_from_before_the_logout_opens_no_session_after_it(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """`auth_time` distinguishes it from a new login."""
    logout = LOGIN + 300
    store.set(AppKeys(app).sid(OP, "sid-1"), logout)
    guard = new_guard(shared_redis.url)

    def login(iat: int, **claims: int) -> dict[str, Any]:
        session: dict[str, Any] = {}
        remember(session, {"iss": OP, "sub": "alice", "sid": "sid-1", "iat": iat, **claims})
        return session

    assert guard.is_revoked(login(logout + 20, auth_time=LOGIN)) is True
    assert guard.is_revoked(login(logout + 61, auth_time=LOGIN)) is False
    assert guard.is_revoked(login(logout + 2, auth_time=logout + 1)) is False
    assert guard.is_revoked(login(logout + 20)) is False, "it looks like a new login"
    both = [login(logout + 20, auth_time=LOGIN), login(logout + 20, auth_time=logout + 1)]
    found = guard.guard.which_revoked(map(Session.from_mapping, both))
    dead = guard._runner.run(found) if guard._runner else found
    assert dead == [Session.from_mapping(both[0])]


@pytest.mark.usefixtures("store")
def test_a_session_without_a_sid_among_others_with_one_is_logged_once(
    new_guard: NewGuard, shared_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    guard = new_guard(shared_redis.url)
    without = Session(ALICE.iss, ALICE.login_at, sub="bob")
    assert guard.is_revoked(without) is False
    assert "has no sid" not in caplog.text, "as with a provider that never sends one"
    assert guard.is_revoked(ALICE) is False
    for _ in range(2):
        assert guard.is_revoked(without) is False
    assert caplog.text.count("has no sid") == 1


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(("past", "dead"), [(0, False), (1, True)])
def test_a_session_is_dead_past_max_session_age(
    past: int, dead: bool, new_guard: NewGuard, shared_redis: RedisServer
) -> None:
    guard = new_guard(shared_redis.url, clock=lambda: LOGIN + AGE + past)
    assert guard.is_revoked(ALICE) is dead


def test_a_new_max_session_age_is_taken_over(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """An operator shortens it while the app runs."""
    guard = new_guard(shared_redis.url)
    assert guard.is_revoked(ALICE) is False
    store.hset(AppKeys(app).meta, "max_session_age", "60")
    assert guard.is_revoked(ALICE) is True


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("session", [{}, {"iss": OP, "login_at": "soon"}], ids=["empty", "bad"])
def test_a_session_that_was_not_remembered_is_a_mistake_and_not_an_outage(
    session: dict[str, Any], new_guard: NewGuard, shared_redis: RedisServer
) -> None:
    guard = new_guard(shared_redis.url, on_outage="allow")
    with pytest.raises(SessionNotIdentified):
        guard.is_revoked(session)


# -- the commands sent to Redis ------------------------------------------------------------


def commands_run(client: redis.Redis) -> dict[str, int]:
    """The number of calls of each command since the last ``CONFIG RESETSTAT``."""
    stats = client.info("commandstats")
    own = ("cmdstat_info", "cmdstat_config|resetstat")
    return {
        name.removeprefix("cmdstat_"): stat["calls"]
        for name, stat in stats.items()
        if name not in own
    }


def test_every_check_reads_markers_and_meta_in_one_round_trip(
    new_guard: NewGuard, shared_redis: RedisServer, store: redis.Redis
) -> None:
    guard = new_guard(shared_redis.url, near_cache=0)
    guard.is_revoked(ALICE)
    store.config_resetstat()
    before = store.info("stats")["total_reads_processed"]
    for session in (ALICE, Session(OP, LOGIN), Session(OP, LOGIN, sid="sid-9")):
        guard.is_revoked(session)
    after = store.info("stats")["total_reads_processed"]
    assert commands_run(store) == {"mget": 3, "hget": 3}
    assert after - before == 4  # the checks, and the second INFO itself


def test_an_empty_redis_makes_no_session_alive(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """It has lost the marker too; an earlier check found no fault."""
    guard = new_guard(shared_redis.url, near_cache=0, on_outage="allow")
    assert guard.is_revoked(NEIGHBOUR) is False
    store.set(AppKeys(app).sid(OP, "sid-1"), LOGIN)
    assert guard.is_revoked(ALICE) is True
    store.delete(AppKeys(app).meta, AppKeys(app).sid(OP, "sid-1"))
    for session in (ALICE, NEIGHBOUR):
        with pytest.raises(GuardMisconfigured, match="no receiver has written"):
            guard.is_revoked(session)
    serve_app(shared_redis, app).close()
    assert guard.is_revoked(NEIGHBOUR) is False


def test_the_first_check_reports_in_the_same_round_trip(
    new_guard: NewGuard, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """And then once a minute."""
    guard = new_guard(shared_redis.url, near_cache=0)
    guard.is_revoked(ALICE)
    guard.report_is_due()
    store.config_resetstat()
    before = store.info("stats")["total_reads_processed"]
    guard.is_revoked(ALICE)
    after = store.info("stats")["total_reads_processed"]
    assert commands_run(store) == {"mget": 1, "hget": 1, "hset": 1, "expire": 1}
    assert after - before == 2  # the check, and the second INFO itself


SIDS: dict[str, tuple[list[Session], dict[str, bool]]] = {
    "all have one": ([ALICE], {OP: True}),
    "one of them has one": ([Session(OP, LOGIN, sub="a"), ALICE], {OP: True}),
    "the last one has none": ([ALICE, Session(OP, LOGIN, sub="a")], {OP: True}),
    "none has one": ([Session(OP, LOGIN, sub="a"), Session(OP, LOGIN, sub="b")], {OP: False}),
    "two issuers": ([ALICE, Session("two", LOGIN, sub="a")], {OP: True, "two": False}),
    "many issuers": (
        [Session(f"op-{n}", LOGIN, sid="s") for n in range(20)],
        {f"op-{n}": True for n in range(8)},
    ),
}


@pytest.mark.parametrize(("sessions", "reported"), SIDS.values(), ids=SIDS)
def test_the_report_has_for_each_issuer_whether_its_sessions_have_a_sid(
    sessions: list[Session],
    reported: dict[str, bool],
    new_guard: NewGuard,
    app: str,
    shared_redis: RedisServer,
    store: redis.Redis,
) -> None:
    guard = new_guard(shared_redis.url, near_cache=0)
    for session in sessions:
        guard.report_is_due()
        guard.is_revoked(session)
    report = Reader.from_json("asks", str(store.hget(AppKeys(app).readers, "asks")))
    assert report is not None
    assert (report.kind, report.sid) == (ReaderKind.ASKS, reported)


# -- whose app it is -----------------------------------------------------------------------

SERVED = '["https://alias.example/", "https://op.example/"]'


def test_sessions_of_a_served_issuer_are_checked(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """Under any of its names."""
    store.hset(AppKeys(app).meta, "issuers", SERVED)
    guard = new_guard(shared_redis.url, near_cache=0)
    for iss in (OP, "https://alias.example/"):
        assert guard.is_revoked(Session(iss, LOGIN, sid="sid-1")) is False
        store.set(AppKeys(app).sid(iss, "sid-1"), LOGIN)
        assert guard.is_revoked(Session(iss, LOGIN, sid="sid-1")) is True


@pytest.mark.parametrize("near_cache", [0, 100])
@pytest.mark.parametrize("on_outage", ["deny", "allow"])
def test_a_session_of_an_unserved_issuer_is_never_alive(
    on_outage: str,
    near_cache: int,
    new_guard: NewGuard,
    app: str,
    shared_redis: RedisServer,
    store: redis.Redis,
) -> None:
    """As for a guard with another app's name: no logout would ever reach the session."""
    store.hset(AppKeys(app).meta, "issuers", SERVED)
    guard = new_guard(shared_redis.url, near_cache=near_cache, on_outage=on_outage)
    with pytest.raises(GuardMisconfigured) as raised:
        guard.is_revoked(Session("https://op.example", LOGIN, sid="sid-1"))
    for named in ("'https://op.example'", "'https://op.example/'", repr(app)):
        assert named in str(raised.value)
    assert guard.is_revoked(ALICE) is False, "the others are checked as before"


def test_an_issuer_that_is_added_is_served_at_the_next_check(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    store.hset(AppKeys(app).meta, "issuers", "[]")
    guard = new_guard(shared_redis.url, near_cache=0)
    with pytest.raises(GuardMisconfigured, match="nobody"):
        guard.is_revoked(ALICE)
    store.hset(AppKeys(app).meta, "issuers", SERVED)
    assert guard.is_revoked(ALICE) is False


def test_an_issuer_that_is_removed_is_noticed_within_a_minute(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    store.hset(AppKeys(app).meta, "issuers", SERVED)
    guard = new_guard(shared_redis.url, near_cache=0)
    assert guard.is_revoked(ALICE) is False
    store.hset(AppKeys(app).meta, "issuers", '["https://other.example"]')
    guard.guard._checker.meta._names_until = float("-inf")  # as if the minute had passed
    with pytest.raises(GuardMisconfigured, match=r"other\.example"):
        guard.is_revoked(ALICE)


def test_a_session_of_another_apps_client_is_not_answered(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """A guard with another app's name, where both apps have the same provider."""
    names = {"issuers": SERVED, "client_ids": '["shop-web"]'}
    store.hset(AppKeys(app).meta, mapping=names)
    claims = {"iss": ALICE.iss, "sub": "alice", "iat": ALICE.login_at}
    for near_cache in (0, 16):
        guard = new_guard(shared_redis.url, near_cache=near_cache, on_outage="allow")
        for aud, served in (("shop-web", True), (["shop-web"], True), ("wiki-web", False)):
            session: dict[str, Any] = {}
            remember(session, claims | {"aud": aud})
            for _ in range(2):
                if served:
                    assert guard.is_revoked(session) is False
                else:
                    with pytest.raises(
                        GuardMisconfigured, match=r"client id 'wiki-web'.*'shop-web'"
                    ):
                        guard.is_revoked(session)


@pytest.mark.parametrize("value", ["", "{}", "[1]", "nobody", '"x"', "[" * 100_000])
def test_unreadable_issuers_make_no_session_alive(
    value: str, new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    store.hset(AppKeys(app).meta, "issuers", value)
    with pytest.raises(RevocationUnknown, match="issuers"):
        new_guard(shared_redis.url, on_outage="allow").is_revoked(ALICE)


def test_a_new_connection_costs_one_more_command(
    new_guard: NewGuard, shared_redis: RedisServer, store: redis.Redis
) -> None:
    """No CLIENT SETINFO, no CLIENT MAINT_NOTIFICATIONS: an ACL user may not be allowed them."""
    store.config_resetstat()
    new_guard(shared_redis.url, near_cache=0).is_revoked(ALICE)
    ran = commands_run(store)
    assert ran == {"hello": 1, "mget": 1, "hget": 3, "hset": 1, "expire": 1}


def test_threads_share_a_guard(shared_redis: RedisServer, app: str, store: redis.Redis) -> None:
    """Each gets the answer to its own query."""
    store.set(AppKeys(app).sid(OP, "dead"), LOGIN)
    sessions = [Session(OP, LOGIN, sid="dead" if n % 2 else f"alive-{n}") for n in range(200)]
    with SessionGuard(shared_redis.url, app=app) as guard, ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(guard.is_revoked, sessions))
    assert answers == [session.sid == "dead" for session in sessions]


async def test_a_burst_of_tasks_shares_a_few_connections(
    shared_redis: RedisServer, app: str, store: redis.Redis
) -> None:
    """More than the library's limit of connections: each waits its turn, none is refused."""
    store.set(AppKeys(app).sid(OP, "dead"), LOGIN)
    sessions = [Session(OP, LOGIN, sid="dead" if n % 2 else f"alive-{n}") for n in range(400)]
    async with AsyncSessionGuard(shared_redis.url, app=app, timeout=10) as guard:
        answers = await asyncio.gather(*(guard.is_revoked(session) for session in sessions))
        connected = store.info("clients")["connected_clients"]
    assert answers == [session.sid == "dead" for session in sessions]
    assert connected < 64


# -- when the state is unknown -------------------------------------------------------------


def test_a_redis_that_no_receiver_serves_is_a_mistake_in_both_modes(
    new_guard: NewGuard, shared_redis: RedisServer
) -> None:
    """Otherwise a wrong URL or app name would keep every session alive forever."""
    for on_outage in ("deny", "allow"):
        guard = new_guard(shared_redis.url, on_outage=on_outage)
        with pytest.raises(GuardMisconfigured, match="no receiver has written"):
            guard.is_revoked(ALICE)


def test_a_guard_works_as_soon_as_a_receiver_serves_its_app(
    new_guard: NewGuard, app: str, shared_redis: RedisServer
) -> None:
    guard = new_guard(shared_redis.url)
    with pytest.raises(GuardMisconfigured):
        guard.is_revoked(ALICE)
    serve_app(shared_redis, app).close()
    assert guard.is_revoked(ALICE) is False


@pytest.mark.parametrize("on_outage", ["deny", "allow"])
@pytest.mark.parametrize("value", ["", "yes", "1.5", "99999999999999999999"])
def test_an_unreadable_marker_does_not_count_as_alive(
    value: str,
    on_outage: str,
    new_guard: NewGuard,
    app: str,
    shared_redis: RedisServer,
    store: redis.Redis,
) -> None:
    """Redis has answered: no outage mode makes this session alive."""
    store.set(AppKeys(app).sid(OP, "sid-1"), value)
    guard = new_guard(shared_redis.url, on_outage=on_outage)
    with pytest.raises(RevocationUnknown, match="not a number"):
        guard.is_revoked(ALICE)
    assert guard.is_revoked(Session(OP, LOGIN, sid="sid-2", sub="alice")) is False


def test_an_unreadable_meta_does_not_count_as_alive(
    new_guard: NewGuard, app: str, shared_redis: RedisServer, store: redis.Redis
) -> None:
    store.hset(AppKeys(app).meta, "max_session_age", "for ever")
    with pytest.raises(RevocationUnknown):
        new_guard(shared_redis.url).is_revoked(ALICE)


OUTAGES: dict[str, Callable[[RedisServer], None]] = {
    "stopped": lambda server: server.stop(),
    "killed": lambda server: server.stop(signal.SIGKILL),
    "frozen": lambda server: server.freeze(),
}


@pytest.mark.slow
@pytest.mark.parametrize("begin", OUTAGES.values(), ids=OUTAGES)
def test_an_outage_is_unknown_or_allowed_and_ends_with_redis_back(
    begin: Callable[[RedisServer], None], new_guard: NewGuard, app: str, redis_server: RedisServer
) -> None:
    """With `deny` the state is unknown; with `allow` dead sessions live during the outage."""
    with serve_app(redis_server, app) as store:
        store.set(AppKeys(app).sid(OP, "dead"), LOGIN)
    dead = Session(OP, LOGIN, sid="dead")
    deny = new_guard(redis_server.url, timeout=TIMEOUT)
    allow = new_guard(redis_server.url, timeout=TIMEOUT, on_outage="allow")
    assert [guard.is_revoked(dead) for guard in (deny, allow)] == [True, True]

    begin(redis_server)
    for _ in range(2):
        with pytest.raises(RevocationUnknown):
            deny.is_revoked(dead)
        assert allow.is_revoked(dead) is False

    if redis_server.process:
        redis_server.thaw()
    else:
        redis_server.start()
    for session in (ALICE, dead, ALICE, dead):
        assert deny.is_revoked(session) is (session is dead)
        assert allow.is_revoked(session) is (session is dead)


def test_a_guard_may_be_built_while_redis_is_away(new_guard: NewGuard) -> None:
    """An app starts before its Redis does."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    with pytest.raises(RevocationUnknown):
        new_guard(url, timeout=TIMEOUT).is_revoked(ALICE)
    assert new_guard(url, timeout=TIMEOUT, on_outage="allow").is_revoked(ALICE) is False


async def test_a_cancelled_check_leaves_no_answer_for_the_next_one(
    redis_server: RedisServer, app: str
) -> None:
    """Its connection must not be used again with a reply in transit."""
    with serve_app(redis_server, app) as store:
        store.set(AppKeys(app).sid(OP, "dead"), LOGIN)
    dead = Session(OP, LOGIN, sid="dead")
    async with AsyncSessionGuard(redis_server.url, app=app, timeout=10) as guard:
        assert await guard.is_revoked(dead)
        redis_server.freeze()
        checks = [asyncio.create_task(guard.is_revoked(dead)) for _ in range(50)]
        await asyncio.sleep(0.05)
        for check in checks:
            check.cancel()
        ended = await asyncio.gather(*checks, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}
        redis_server.thaw()
        assert not any([await guard.is_revoked(ALICE) for _ in range(50)])
        assert all([await guard.is_revoked(dead) for _ in range(50)])


# -- permissions ---------------------------------------------------------------------------


@pytest.fixture
def acl_server(tmp_path: Path, app: str) -> Iterator[RedisServer]:
    """Only the user `guard` has permissions: it may read the markers of its app."""
    server = RedisServer(tmp_path / "acl").start()
    serve_app(server, app).close()
    with server.client() as client:
        for name, rules in {
            "admin": (">root", "~*", "&*", "+@all"),
            "guard": (">sesame", f"%R~bcl:v1:{{{app}}}:*", "+mget", "+hget"),
            "nobody": (">sesame",),
        }.items():
            client.execute_command("ACL", "SETUSER", name, "reset", "on", *rules)
        client.execute_command("ACL", "SETUSER", "default", "reset", "off")
    yield server
    server.stop(signal.SIGKILL)


def test_permission_to_read_the_apps_keys_is_enough(
    new_guard: NewGuard, acl_server: RedisServer
) -> None:
    url = acl_server.url.replace("//", "//guard:sesame@")
    assert new_guard(url).is_revoked(ALICE) is False


@pytest.mark.parametrize("user", ["", "guard:wrong@", "nobody:sesame@"])
def test_refused_credentials_are_a_mistake_in_both_modes(
    user: str, new_guard: NewGuard, acl_server: RedisServer
) -> None:
    """A mistyped password must not make every session alive."""
    for on_outage in ("deny", "allow"):
        guard = new_guard(acl_server.url.replace("//", "//" + user), on_outage=on_outage)
        with pytest.raises(GuardMisconfigured) as caught:
            guard.is_revoked(ALICE)
        assert "sesame" not in str(caught.value)
        assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("fault", ["a database that is not there", "a meta of another type"])
def test_a_wrong_setting_is_no_outage_in_either_mode(
    fault: str, new_guard: NewGuard, app: str, shared_redis: RedisServer
) -> None:
    """It stays until someone acts: with `allow` every session would live until then."""
    url = shared_redis.url
    if fault == "a database that is not there":
        url = url.removesuffix("/0") + "/99"
    else:
        with shared_redis.client() as client:
            client.delete(AppKeys(app).meta)
            client.set(AppKeys(app).meta, "x")
    for on_outage in ("deny", "allow"):
        with pytest.raises(GuardMisconfigured):
            new_guard(url, on_outage=on_outage).is_revoked(ALICE)


def test_the_keys_of_another_app_are_refused(new_guard: NewGuard, acl_server: RedisServer) -> None:
    url = acl_server.url.replace("//", "//guard:sesame@")
    with pytest.raises(GuardMisconfigured):
        new_guard(url, app="another").is_revoked(ALICE)


# -- building one --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://127.0.0.1/", {"app": "shop"}),
        ("redis://127.0.0.1/", {"app": "Shop"}),
        ("redis://127.0.0.1/", {"app": "shop", "on_outage": "ignore"}),
    ],
    ids=["not a Redis URL", "not an app name", "not a mode"],
)
def test_a_wrong_argument_is_refused_at_once(
    url: str, options: dict[str, Any], new_guard: NewGuard
) -> None:
    with pytest.raises(ValueError, match=r"URL|name|on_outage"):
        new_guard(url, **options)
