"""The WSGI middleware against a real Redis, with the kinds of sessions of WSGI apps."""

import itertools
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from http.cookies import SimpleCookie
from typing import Any, ClassVar
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import redis
from werkzeug.test import Client, TestResponse

from backchannel_logout import AppKeys, SessionGuard, remember
from backchannel_logout.gate import NoSession
from backchannel_logout.wsgi import BackchannelLogoutMiddleware
from tests.support.patience import PATIENCE
from tests.support.servers.redis_server import RedisServer, free_port

OP = "https://op.example/"
LOGIN = int(time.time()) - 600
ALICE = {"iss": OP, "sub": "alice", "sid": "sid-1", "iat": LOGIN}
ALICE_ELSEWHERE = ALICE | {"sid": "sid-2"}
BOB = {"iss": OP, "sub": "bob", "sid": "sid-3", "iat": LOGIN}
PAGE = {"Accept": "text/html"}
SESSION_ENDED = {"error": "session_ended"}
NOT_SIGNED_IN = {"error": "not_signed_in"}

SESSION_KEYS = ("beaker.session", "other.session")

numbers = itertools.count()


# -- sessions ------------------------------------------------------------------------------


class Plain(dict[str, Any]):
    """A session that its middleware saves when the response begins."""

    def __init__(self, store: dict[str, dict[str, Any]], key: str) -> None:
        super().__init__(store.get(key, {}))
        self._store = store
        self._key = key

    def persist(self) -> None:
        self._store[self._key] = dict(self)


class Saved(Plain):
    """A session that is only stored by `save`."""

    changed = False

    def save(self) -> None:
        self.changed = True

    def persist(self) -> None:
        if self.changed:
            super().persist()


class Invalidated(Saved):
    """A session that only `invalidate` removes from its store."""

    def invalidate(self) -> None:
        self._store.pop(self._key, None)
        self.clear()
        self.changed = False


class Beaker(Saved):
    """Like Beaker's: `invalidate` leaves the old one, `delete` needs data that `clear` removes."""

    def __init__(self, store: dict[str, dict[str, Any]], key: str) -> None:
        super().__init__(store, key)
        self.setdefault("_id", key)

    def invalidate(self) -> None:
        self.clear()
        self._key = uuid.uuid4().hex

    def delete(self) -> None:
        assert self["_id"] == self._key
        self.clear()
        self.changed = True


class Sessions:
    """The session middleware, with its store."""

    kinds: ClassVar = (Plain, Saved, Invalidated, Beaker)

    def __init__(self, app: Any, kind: type[Plain], environ_key: str = SESSION_KEYS[0]) -> None:
        self.app = app
        self.kind = kind
        self.environ_key = environ_key
        self.store: dict[str, dict[str, Any]] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        cookies = SimpleCookie(environ.get("HTTP_COOKIE", ""))
        key = cookies["id"].value if "id" in cookies else uuid.uuid4().hex
        session = environ[self.environ_key] = self.kind(self.store, key)

        def begin(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
            session.persist()
            return start_response(status, [*headers, ("Set-Cookie", f"id={key}; Path=/")], error)

        return self.app(environ, begin)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A WSGI app with a login, a refresh, and ``/me``."""
    session: Any = next(environ[key] for key in SESSION_KEYS if key in environ)
    path, body = environ["PATH_INFO"], {}
    if path == "/login":
        claims = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        remember(session, claims)
        session["user"] = claims["sub"]
    elif path == "/login-without-remember":
        session["user"] = "alice"
    elif path == "/refresh":
        session["access_token"] = "new"
    elif "user" not in session:
        body = NOT_SIGNED_IN
    if path != "/me" and hasattr(session, "save"):
        session.save()
    payload = json.dumps(body).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(payload)))]
    start_response("401 Unauthorized" if body else "200 OK", headers)
    return [payload]


# -- fixtures ------------------------------------------------------------------------------


class WsgiShop:
    """The app behind the middleware and a session, and its name in Redis."""

    def __init__(self, guard: SessionGuard, name: str, kind: type[Plain], **options: Any) -> None:
        self.keys = AppKeys(name)
        options = {"signed_in": "user", "login_url": "/login"} | options
        self.sessions = Sessions(BackchannelLogoutMiddleware(app, guard, **options), kind)

    def browser(self, claims: dict[str, Any] | None = None) -> Client:
        browser = Client(self.sessions)
        if claims:
            assert browser.post("/login", json=claims).status_code == 200
        return browser


NewShop = Callable[..., WsgiShop]


@pytest.fixture
def new_shop(shared_redis: RedisServer) -> Iterator[NewShop]:
    guards: list[SessionGuard] = []

    def new(
        url: str = shared_redis.url, kind: type[Plain] = Beaker, name: str = "", **options: Any
    ) -> WsgiShop:
        name = name or f"wsgi-{next(numbers)}"
        guards.append(SessionGuard(url, app=name, timeout=PATIENCE))
        return WsgiShop(guards[-1], name, kind, **options)

    yield new
    for guard in guards:
        guard.close()


@pytest.fixture
def store(shared_redis: RedisServer) -> Iterator[redis.Redis]:
    with shared_redis.client() as client:
        yield client


def served(shop: WsgiShop, store: redis.Redis) -> WsgiShop:
    """The app, served by a receiver."""
    store.hset(shop.keys.meta, mapping={"v": "1", "max_session_age": "86400"})
    return shop


@pytest.fixture
def shop(new_shop: NewShop, store: redis.Redis) -> WsgiShop:
    return served(new_shop(), store)


def get(browser: Client, path: str = "/me", **headers: str) -> TestResponse:
    return browser.get(path, headers=headers)


# -- alive and dead ------------------------------------------------------------------------


def test_a_living_session_reaches_the_app(shop: WsgiShop) -> None:
    assert get(shop.browser(ALICE)).status_code == 200


def test_a_session_without_a_sign_in_is_not_checked(new_shop: NewShop) -> None:
    """There is no Redis."""
    shop = new_shop(f"redis://127.0.0.1:{free_port()}/0")
    assert get(shop.browser()).json == NOT_SIGNED_IN
    assert get(shop.browser(ALICE)).status_code == 503


MARKERS: dict[str, tuple[Callable[[AppKeys], str], dict[str, Any]]] = {
    "its session id": (lambda keys: keys.sid(OP, "sid-1"), ALICE_ELSEWHERE),
    "its user": (lambda keys: keys.sub(OP, "alice"), BOB),
    "its issuer": (lambda keys: keys.all(OP), BOB | {"iss": "https://other.example/"}),
}


@pytest.mark.parametrize(("marker", "neighbour"), MARKERS.values(), ids=MARKERS)
def test_an_ended_session_is_answered_401_and_its_neighbour_lives(
    marker: Callable[[AppKeys], str],
    neighbour: dict[str, Any],
    shop: WsgiShop,
    store: redis.Redis,
) -> None:
    alice, other = shop.browser(ALICE), shop.browser(neighbour)
    store.set(marker(shop.keys), LOGIN)
    answer = get(alice)
    assert (answer.status_code, answer.json) == (401, SESSION_ENDED)
    assert answer.headers["Cache-Control"] == "no-store"
    assert get(other).status_code == 200


@pytest.mark.parametrize("kind", Sessions.kinds)
def test_an_ended_session_is_cleared_in_its_store(
    kind: type[Plain], new_shop: NewShop, store: redis.Redis
) -> None:
    """So it does not return when the marker expires."""
    shop = served(new_shop(kind=kind), store)
    alice, other = shop.browser(ALICE), shop.browser(ALICE_ELSEWHERE)
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN)
    assert get(alice).json == SESSION_ENDED
    store.delete(shop.keys.sid(OP, "sid-1"))
    assert get(alice).json == NOT_SIGNED_IN
    assert [one["user"] for one in shop.sessions.store.values() if "user" in one] == ["alice"]
    assert get(other).status_code == 200


def test_a_login_after_the_logout_lives(shop: WsgiShop, store: redis.Redis) -> None:
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN)
    assert get(shop.browser(ALICE | {"iat": LOGIN + 1})).status_code == 200


def test_a_page_of_an_ended_session_is_sent_to_the_login_but_not_in_circles(
    shop: WsgiShop, store: redis.Redis
) -> None:
    alice = shop.browser(ALICE)
    store.set(shop.keys.sub(OP, "alice"), int(time.time()) + 60)
    first = get(alice, **PAGE)
    assert (first.status_code, first.location) == (303, "/login")
    assert first.headers["Cache-Control"] == "no-store"

    alice.post("/login", json=ALICE | {"iat": int(time.time())})
    second = get(alice, **PAGE)
    assert (second.status_code, second.mimetype) == (401, "text/html")
    assert 'href="/login"' in second.text
    assert get(alice).json == NOT_SIGNED_IN


def test_the_cookie_against_a_loop_is_secure_where_the_page_is(
    shop: WsgiShop, store: redis.Redis
) -> None:
    alice = shop.browser(ALICE)
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN)
    answer = alice.get("/me", headers=PAGE, base_url="https://localhost")
    assert any("; Secure" in cookie for cookie in answer.headers.getlist("Set-Cookie"))


def test_a_head_request_gets_the_same_answer_without_a_body(
    shop: WsgiShop, store: redis.Redis
) -> None:
    alice = shop.browser(ALICE)
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN)
    answer = alice.head("/me")
    assert (answer.status_code, answer.data) == (401, b"")
    assert answer.content_length


def test_a_refresh_after_the_logout_does_not_bring_the_session_back(
    shop: WsgiShop, store: redis.Redis
) -> None:
    """Login, refresh, logout, refresh, check."""
    alice = shop.browser(ALICE)
    assert alice.post("/refresh").status_code == 200
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN + 60)
    assert alice.post("/refresh").json == SESSION_ENDED
    assert get(alice).json == NOT_SIGNED_IN


def test_a_session_that_is_written_back_after_its_end_stays_dead(
    shop: WsgiShop, store: redis.Redis
) -> None:
    """As by a request in progress at the logout."""
    alice = shop.browser(ALICE)
    saved = dict(shop.sessions.store)
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN)
    for _ in range(2):
        assert get(alice).json == SESSION_ENDED
        shop.sessions.store.update(saved)


# -- mistakes ------------------------------------------------------------------------------


def test_middlewares_in_the_wrong_order_are_refused(shared_redis: RedisServer) -> None:
    """The session middleware is inside, so it has not run yet."""
    with SessionGuard(shared_redis.url, app="shop") as guard:
        wrong = BackchannelLogoutMiddleware(Sessions(app, Beaker), guard, signed_in="user")
        with pytest.raises(NoSession, match=r"'beaker\.session'.*swap the middlewares"):
            Client(wrong).get("/nowhere")


def test_a_session_may_stand_under_another_key(shared_redis: RedisServer) -> None:
    with SessionGuard(shared_redis.url, app="shop") as guard:
        right = BackchannelLogoutMiddleware(
            app, guard, signed_in="user", session_key="other.session"
        )
        assert Client(Sessions(right, Plain, "other.session")).get("/me").json == NOT_SIGNED_IN
        with pytest.raises(NoSession, match=r"'other\.session'"):
            Client(Sessions(right, Plain)).get("/me")


@pytest.mark.parametrize(
    ("rule", "answers"),
    [("end", [SESSION_ENDED, NOT_SIGNED_IN]), ("allow", [{}, {}])],
)
def test_a_session_from_before_the_installation_ends_or_is_allowed_and_is_logged_once(
    rule: str,
    answers: list[dict[str, str]],
    new_shop: NewShop,
    store: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop = served(new_shop(on_unidentified=rule), store)
    for browser in (shop.browser(), shop.browser()):
        browser.post("/login-without-remember")
        assert [get(browser).json for _ in range(2)] == answers
    (warning,) = (one for one in caplog.records if one.levelno == logging.WARNING)
    assert f"on_unidentified={rule}" in warning.getMessage()


# -- outages -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Sessions.kinds)
def test_without_redis_it_is_503_and_the_session_stays(
    kind: type[Plain], new_shop: NewShop, store: redis.Redis
) -> None:
    """The same store, through an address without a listener."""
    shop = served(new_shop(kind=kind), store)
    away = new_shop(f"redis://127.0.0.1:{free_port()}/0", kind=kind)
    away.sessions.store = shop.sessions.store
    alice, dead = shop.browser(ALICE), shop.browser(ALICE_ELSEWHERE)
    store.set(shop.keys.sid(OP, "sid-2"), LOGIN)

    for browser in (alice, dead):
        browser.application = away.sessions
        answer, page = get(browser), get(browser, **PAGE)
        assert (answer.status_code, answer.json) == (503, {"error": "temporarily_unavailable"})
        assert answer.headers["Cache-Control"] == "no-store"
        assert int(answer.headers["Retry-After"]) > 0
        assert (page.status_code, page.mimetype) == (503, "text/html")
        browser.application = shop.sessions

    assert get(alice).status_code == 200
    assert get(dead).json == SESSION_ENDED


def test_the_session_works_again_when_redis_is_back(
    new_shop: NewShop, redis_server: RedisServer
) -> None:
    shop = new_shop(redis_server.url)
    with redis_server.client() as store:
        served(shop, store)
    alice = shop.browser(ALICE)
    assert get(alice).status_code == 200
    redis_server.stop()
    assert get(alice).status_code == 503
    redis_server.start()
    assert get(alice).status_code == 200
