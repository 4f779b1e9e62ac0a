"""The Flask extension against a real Redis, with both kinds of sessions of Flask apps."""

import itertools
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import flask
import flask_session
import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from backchannel_logout import AppKeys, SessionGuard, remember
from backchannel_logout.contract.session import MEMBER
from backchannel_logout.flask import BackchannelLogout
from backchannel_logout.gate import LOOP_COOKIE, NoSession
from tests.support.patience import PATIENCE
from tests.support.servers.redis_server import RedisServer, free_port

OP = "https://op.example/"
LOGIN = int(time.time()) - 600
ALICE = {"iss": OP, "sub": "alice", "sid": "sid-1", "iat": LOGIN}
ALICE_ELSEWHERE = ALICE | {"sid": "sid-2"}
BOB = {"iss": OP, "sub": "bob", "sid": "sid-3", "iat": LOGIN}
PAGE = {"Accept": "text/html,*/*;q=0.8"}

numbers = itertools.count()


@dataclass
class FlaskShop:
    """The app: its name in Redis, and the paths that its own hook has seen."""

    name: str
    app: flask.Flask
    hook_saw: list[str] = field(default_factory=list)

    @property
    def keys(self) -> AppKeys:
        return AppKeys(self.name)

    def browser(self, claims: dict[str, Any] | None = None) -> FlaskClient:
        """A browser; with ``claims`` it is signed in."""
        client = self.app.test_client()
        if claims:
            assert client.post("/login", json=claims).status_code == 204
        return client


NewShop = Callable[..., FlaskShop]


@pytest.fixture(params=["cookie", "server-side"])
def new_shop(request: pytest.FixtureRequest, shared_redis: RedisServer) -> Iterator[NewShop]:
    """Makes an app with sessions in Flask's signed cookies, or in Redis with Flask-Session."""
    guards: list[SessionGuard] = []
    with redis.Redis.from_url(shared_redis.url) as sessions:

        def new(url: str = shared_redis.url, **options: Any) -> FlaskShop:
            app = flask.Flask("shop")
            app.testing = True
            app.secret_key = "only of this test"
            if request.param == "server-side":
                app.config |= {"SESSION_TYPE": "redis", "SESSION_REDIS": sessions}
                flask_session.Session(app)
            shop = FlaskShop(f"flask-{next(numbers)}", app)
            add_routes(shop)
            guards.append(SessionGuard(url, app=shop.name, timeout=PATIENCE))
            BackchannelLogout(
                app, guard=guards[-1], signed_in="user", login_url="/login?a=1&b", **options
            )
            return shop

        yield new
        for guard in guards:
            guard.close()


def add_routes(shop: FlaskShop) -> None:
    """A hook of the app, pages, and the life of a session."""
    app, session = shop.app, flask.session

    @app.before_request
    def hook() -> None:
        shop.hook_saw.append(flask.request.path)

    @app.post("/login")
    def login() -> tuple[str, int]:
        claims: dict[str, Any] = flask.request.json or {}
        session.clear()
        remember(session, claims)
        session["user"] = claims["sub"]
        return "", 204

    @app.post("/login-without-remember")
    def login_without_remember() -> tuple[str, int]:
        session["user"] = "alice"
        return "", 204

    @app.post("/refresh")
    def refresh() -> tuple[str, int]:
        """As in the contract: the refreshed tokens are stored, and `remember` is not called."""
        session["access_token"] = "new"
        return "", 204

    @app.get("/me")
    def me() -> tuple[dict[str, Any], int]:
        return dict(session), 200 if "user" in session else 401


@pytest.fixture
def store(shared_redis: RedisServer) -> Iterator[redis.Redis]:
    with shared_redis.client() as client:
        yield client


@pytest.fixture
def shop(new_shop: NewShop, store: redis.Redis) -> FlaskShop:
    """An app that the receiver serves."""
    return served(new_shop(), store)


def served(shop: FlaskShop, store: redis.Redis) -> FlaskShop:
    store.hset(shop.keys.meta, mapping={"v": "1", "max_session_age": "86400"})
    return shop


def is_signed_out(answer: TestResponse) -> bool:
    """Whether the app itself answered a request without a session."""
    return answer.status_code == 401 and "error" not in (answer.json or {})


SESSION_ENDED = {"error": "session_ended"}


# -- alive and dead ------------------------------------------------------------------------


def test_a_living_session_reaches_the_app(shop: FlaskShop) -> None:
    browser = shop.browser(ALICE)
    answer = browser.get("/me")
    assert answer.status_code == 200
    assert answer.json
    assert answer.json[MEMBER] == {"iss": OP, "sub": "alice", "sid": "sid-1", "login_at": LOGIN}
    assert shop.hook_saw == ["/login", "/me"]


def test_a_session_without_a_sign_in_is_not_checked(new_shop: NewShop) -> None:
    """There is no Redis, and the login still works."""
    shop = new_shop(f"redis://127.0.0.1:{free_port()}/0")
    browser = shop.browser()
    assert is_signed_out(browser.get("/me"))
    assert browser.post("/login", json=ALICE).status_code == 204
    assert browser.get("/me").status_code == 503


@pytest.mark.parametrize("own", ["sid", "sub", "iss", "login_at"])
def test_a_visitor_with_the_apps_own_member_is_not_locked_out(own: str, new_shop: NewShop) -> None:
    shop = new_shop(f"redis://127.0.0.1:{free_port()}/0")
    browser = shop.browser()
    with browser.session_transaction() as session:
        session[own] = "cart-17"
    assert is_signed_out(browser.get("/me"))


@pytest.mark.parametrize("own", ["cart-17", 17])
def test_the_apps_own_members_of_those_names_stay(
    own: object, shop: FlaskShop, store: redis.Redis
) -> None:
    """The user is not locked out, and the logout still finds the session."""
    alice = shop.browser(ALICE)
    mine = dict.fromkeys(("iss", "sub", "sid", "login_at"), own)
    with alice.session_transaction() as session:
        session.update(mine)
    answer = alice.get("/me")
    assert answer.status_code == 200
    assert answer.json
    assert mine.items() <= answer.json.items()
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN)
    assert alice.get("/me").json == SESSION_ENDED


def test_a_session_of_an_earlier_release_ends_and_its_neighbour_lives(
    shop: FlaskShop, store: redis.Redis
) -> None:
    """Its login is at the top. An upgrade signs no user out, and no logout is missed."""
    alice, bob = shop.browser(), shop.browser()
    for browser, user, sid in ((alice, "alice", "sid-1"), (bob, "bob", "sid-2")):
        with browser.session_transaction() as session:
            session |= {"user": user, "iss": OP, "sub": user, "sid": sid, "login_at": LOGIN}
    assert alice.get("/me").status_code == 200
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN)
    assert alice.get("/me").json == SESSION_ENDED
    assert is_signed_out(alice.get("/me"))
    assert bob.get("/me").status_code == 200
    assert bob.post("/login", json=ALICE | {"sid": "sid-3"}).status_code == 204
    assert {"iss", "sub", "sid", "login_at"}.isdisjoint(bob.get("/me").json or {})


MARKERS: dict[str, tuple[Callable[[AppKeys], str], dict[str, Any]]] = {
    "its session id": (lambda keys: keys.sid(OP, "sid-1"), ALICE_ELSEWHERE),
    "its user": (lambda keys: keys.sub(OP, "alice"), BOB),
    "its issuer": (lambda keys: keys.all(OP), BOB | {"iss": "https://other.example/"}),
}


@pytest.mark.parametrize(("marker", "neighbour"), MARKERS.values(), ids=MARKERS)
def test_an_ended_session_is_cleared_and_answered_401_and_its_neighbour_lives(
    marker: Callable[[AppKeys], str],
    neighbour: dict[str, Any],
    shop: FlaskShop,
    store: redis.Redis,
) -> None:
    alice, other = shop.browser(ALICE), shop.browser(neighbour)
    shop.hook_saw.clear()
    store.set(marker(shop.keys), LOGIN)

    answer = alice.get("/me")

    assert (answer.status_code, answer.json) == (401, SESSION_ENDED)
    assert answer.headers["Cache-Control"] == "no-store"
    assert shop.hook_saw == []
    assert other.get("/me").status_code == 200
    # The session itself is gone: it does not return when the marker expires.
    store.delete(marker(shop.keys))
    assert is_signed_out(alice.get("/me"))


def test_a_login_after_the_logout_lives(shop: FlaskShop, store: redis.Redis) -> None:
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN)
    later = shop.browser(ALICE | {"iat": LOGIN + 1})
    assert later.get("/me").status_code == 200


@pytest.mark.parametrize("path", ["/me", "/nowhere"])
def test_a_page_of_an_ended_session_is_sent_to_the_login(
    path: str, shop: FlaskShop, store: redis.Redis
) -> None:
    alice = shop.browser(ALICE)
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN)

    answer = alice.get(path, headers=PAGE)

    assert (answer.status_code, answer.location) == (303, "/login?a=1&b")
    assert answer.headers["Cache-Control"] == "no-store"
    assert is_signed_out(alice.get("/me"))


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
def test_the_cookie_against_a_loop_is_secure_where_the_page_is(
    scheme: str, secure: bool, shop: FlaskShop, store: redis.Redis
) -> None:
    alice = shop.browser(ALICE)
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN)
    answer = alice.get("/me", headers=PAGE, base_url=f"{scheme}://localhost")
    (cookie,) = (one for one in answer.headers.getlist("Set-Cookie") if LOOP_COOKIE in one)
    assert ("; Secure" in cookie) is secure


def test_a_session_that_is_dead_again_right_after_its_login_gets_a_page_and_no_redirect(
    shop: FlaskShop, store: redis.Redis
) -> None:
    """Like a provider whose clock is behind: each new login is older than the logout."""
    alice = shop.browser(ALICE)
    store.set(shop.keys.sub(OP, "alice"), int(time.time()) + 60)
    assert alice.get("/me", headers=PAGE).status_code == 303
    alice.post("/login", json=ALICE | {"iat": int(time.time())})

    answer = alice.get("/me", headers=PAGE)

    assert answer.status_code == 401
    assert answer.headers["Cache-Control"] == "no-store"
    assert 'href="/login?a=1&amp;b"' in answer.text
    assert is_signed_out(alice.get("/me"))


def test_a_refresh_after_the_logout_does_not_bring_the_session_back(
    shop: FlaskShop, store: redis.Redis
) -> None:
    """Login, refresh, logout, refresh, check."""
    alice = shop.browser(ALICE)
    assert alice.post("/refresh").status_code == 204
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN + 60)
    assert alice.post("/refresh").json == SESSION_ENDED
    assert is_signed_out(alice.get("/me"))


def test_a_copy_of_the_cookie_opens_nothing(shop: FlaskShop, store: redis.Redis) -> None:
    """A copied signed cookie cannot be revoked, nor can a session be kept deleted."""
    alice, thief = shop.browser(ALICE), shop.browser()
    copy = alice.get_cookie("session")
    assert copy
    saved = {key: store.dump(key) for key in store.scan_iter("session:*")}
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN)
    assert alice.get("/me").json == SESSION_ENDED

    # A request in progress writes back the data from before the logout.
    for key, value in saved.items():
        store.restore(key, 0, value, replace=True)
    for _ in range(2):
        thief.set_cookie("session", copy.value)
        assert thief.get("/me").status_code == 401


# -- mistakes ------------------------------------------------------------------------------


def test_an_app_without_a_session_gets_a_helpful_error(new_shop: NewShop) -> None:
    shop = new_shop()
    shop.app.secret_key = None
    shop.app.session_interface = flask.sessions.SecureCookieSessionInterface()
    with pytest.raises(NoSession, match=r"set app\.secret_key, or install"):
        shop.browser().get("/nowhere")


def sign_in_without_remember(shop: FlaskShop) -> FlaskClient:
    browser = shop.browser()
    assert browser.post("/login-without-remember").status_code == 204
    return browser


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


def test_a_session_from_before_the_installation_ends_and_is_logged_once(
    shop: FlaskShop, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = sign_in_without_remember(shop), sign_in_without_remember(shop)
    for browser in (first, second):
        assert browser.get("/me").json == SESSION_ENDED
        assert is_signed_out(browser.get("/me"))
    (warning,) = warnings_of(caplog)
    assert "on_unidentified=end" in warning


def test_a_session_from_before_the_installation_may_be_allowed(
    new_shop: NewShop, store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Others still end."""
    shop = served(new_shop(on_unidentified="allow"), store)
    unknown, alice = sign_in_without_remember(shop), shop.browser(ALICE)
    store.set(shop.keys.sid(OP, "sid-1"), LOGIN)
    assert [unknown.get("/me").status_code for _ in range(2)] == [200, 200]
    assert alice.get("/me").json == SESSION_ENDED
    (warning,) = warnings_of(caplog)
    assert "on_unidentified=allow" in warning


def test_an_app_that_no_receiver_serves_answers_503(
    new_shop: NewShop, caplog: pytest.LogCaptureFixture
) -> None:
    alice = new_shop().browser(ALICE)
    assert alice.get("/me").status_code == 503
    assert "no receiver has written" in caplog.text


def test_an_app_made_by_a_function_is_watched_over_too(
    shared_redis: RedisServer, store: redis.Redis
) -> None:
    """One extension, made before the app; its hook still runs first."""
    name = f"flask-{next(numbers)}"
    with SessionGuard(shared_redis.url, app=name) as guard:
        extension = BackchannelLogout(guard=guard, signed_in=lambda session: "user" in session)
        shop = served(FlaskShop(name, flask.Flask("made")), store)
        shop.app.secret_key = "only of this test"
        add_routes(shop)
        extension.init_app(shop.app)
        alice = shop.browser(ALICE)
        assert alice.get("/me").status_code == 200
        shop.hook_saw.clear()
        store.set(shop.keys.sid(OP, "sid-1"), LOGIN)
        assert alice.get("/me").json == SESSION_ENDED
        assert shop.hook_saw == []
        assert shop.app.extensions["backchannel_logout"] is extension


def test_the_package_does_not_load_flask() -> None:
    code = (
        "import sys, backchannel_logout, backchannel_logout.gate, backchannel_logout.wsgi\n"
        "assert not {'flask', 'werkzeug'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- outages -------------------------------------------------------------------------------


def test_without_redis_it_is_503_and_the_session_stays(
    new_shop: NewShop, redis_server: RedisServer
) -> None:
    shop = new_shop(redis_server.url)
    with redis_server.client() as store:
        served(shop, store)
        store.set(shop.keys.sid(OP, "sid-2"), LOGIN)
    alice, dead = shop.browser(ALICE), shop.browser(ALICE_ELSEWHERE)
    redis_server.stop()

    answer = alice.get("/me")
    page = alice.get("/me", headers=PAGE)

    assert (answer.status_code, answer.json) == (503, {"error": "temporarily_unavailable"})
    assert answer.headers["Cache-Control"] == "no-store"
    assert int(answer.headers["Retry-After"]) > 0
    assert (page.status_code, page.mimetype) == (503, "text/html")
    assert "<title>Try again</title>" in page.text, "no user was signed out"
    assert dead.get("/me").status_code == 503

    redis_server.start()
    assert alice.get("/me").status_code == 200
    assert dead.get("/me").json == SESSION_ENDED
