"""The Django middleware, under WSGI and ASGI, against a real Redis and a real database."""

import asyncio
import itertools
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.contrib import auth
from django.contrib.sessions.backends.cache import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path

import backchannel_logout.django
from backchannel_logout import AppKeys, AsyncSessionGuard, SessionGuard, SessionNotIdentified
from backchannel_logout.contract.session import MEMBER
from backchannel_logout.django import BackchannelLogoutMiddleware, remember
from backchannel_logout.gate import NoSession
from tests.support.apps.django_project import django_project
from tests.support.patience import PATIENCE
from tests.support.servers.redis_server import RedisServer, free_port

FORGOTTEN = dict.fromkeys(("iss", "sub", "sid", "login_at"), "absent")
OP = "https://op.example/"
LOGIN = int(time.time()) - 600
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
OURS = "backchannel_logout.django.BackchannelLogoutMiddleware"
PAGE = {"Accept": "text/html,*/*"}


def claims(user: str, sid: str | None = "sid-1", iat: int = LOGIN) -> dict[str, Any]:
    named = {} if sid is None else {"sid": sid}
    return {"iss": OP, "sub": user, "iat": iat, "aud": "shop-web", **named}


# -- the app: its views sign in, and remember the login ------------------------------------


def me(request: HttpRequest) -> HttpResponse:
    old = {name: request.session.get(name, "absent") for name in FORGOTTEN}
    remembered = request.session.get(MEMBER, old)
    return JsonResponse({"user": request.session.get(auth.SESSION_KEY), **remembered})


def user_of(request: HttpRequest) -> tuple[Any, dict[str, Any]]:
    name, sid = request.GET["user"], request.GET.get("sid")
    return auth.get_user_model().objects.get_or_create(username=name)[0], claims(name, sid)


def login(request: HttpRequest, order: str) -> HttpResponse:
    user, known = user_of(request)
    if order == "before":
        remember(request, known)
    if order != "never":
        auth.login(request, user)
    if order in ("after", "never"):
        remember(request, known)
    return me(request)


async def alogin(request: HttpRequest, order: str) -> HttpResponse:
    user, known = await sync_to_async(user_of)(request)
    if order == "before":
        remember(request, known)
    if order != "never":
        await auth.alogin(request, user)
    if order in ("after", "never"):
        remember(request, known)
    return me(request)


def wrapped_login(request: HttpRequest) -> HttpResponse:
    """Like a framework that wraps Django's request in its own."""

    class Wrapper:
        META = request.META
        session = request.session

    user, known = user_of(request)
    remember(Wrapper(), known)
    auth.login(request, user)
    return me(request)


def of_earlier_release(request: HttpRequest) -> HttpResponse:
    """Signed in, with the login where earlier releases stored it."""
    user, known = user_of(request)
    auth.login(request, user)
    request.session.update({name: known[name] for name in ("iss", "sub", "sid")})
    request.session["login_at"] = known["iat"]
    return HttpResponse()


class Urls:
    urlpatterns = [  # noqa: RUF012  Django's name
        path("me", me),
        path("login/<order>", login),
        path("alogin/<order>", alogin),
        path("wrapped-login", wrapped_login),
        path("of-earlier-release", of_earlier_release),
        path("sign-in", me, name="sign-in-page"),
    ]


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Django, with a database in a file."""
    with (
        django_project(tmp_path_factory.mktemp("django")),
        override_settings(ROOT_URLCONF=Urls, MIDDLEWARE=[SESSIONS, OURS]),
    ):
        yield


class Browser:
    """A browser of an app under WSGI or ASGI, with its own cookies."""

    def __init__(self, runner: asyncio.Runner | None) -> None:
        self._runner = runner
        self._client: Any = Client() if runner is None else AsyncClient()

    def get(self, address: str, headers: dict[str, str] | None = None) -> Any:
        answer = self._client.get(address, headers=headers or {})
        return answer if self._runner is None else self._runner.run(answer)

    def sign_in(self, user: str, sid: str = "sid-1", order: str = "before") -> Any:
        view = "login" if self._runner is None else "alogin"
        answer = self.get(f"/{view}/{order}?user={user}&sid={sid}")
        assert answer.status_code == 200, answer.content
        return answer.json()

    @property
    def cookies(self) -> Any:
        return self._client.cookies


NewBrowser = Callable[..., Browser]


@pytest.fixture(params=["WSGI", "ASGI"])
def new_browser(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    app: str,
    shared_redis: RedisServer,
) -> Iterator[NewBrowser]:
    """A browser of an app with these options; each has its own middleware."""
    guards: list[AsyncSessionGuard] = []
    of_threads: list[SessionGuard] = []

    def new_guard(**options: Any) -> AsyncSessionGuard:
        guards.append(AsyncSessionGuard(**({"timeout": PATIENCE} | options)))
        return guards[-1]

    def new_guard_of_threads(**options: Any) -> SessionGuard:
        of_threads.append(SessionGuard(**({"timeout": PATIENCE} | options)))
        return of_threads[-1]

    monkeypatch.setattr(backchannel_logout.django, "AsyncSessionGuard", new_guard)
    monkeypatch.setattr(backchannel_logout.django, "SessionGuard", new_guard_of_threads)
    if request.param == "WSGI":
        runner = None
    else:
        runner = asyncio.Runner()
        # The guard for threads would block the event loop here.
        monkeypatch.setattr(backchannel_logout.django, "SessionGuard", None)
    overrides: list[Any] = []

    def new(
        middleware: tuple[str, ...] = (SESSIONS, OURS), *, engine: str = "db", **options: Any
    ) -> Browser:
        overrides.append(
            override_settings(
                BACKCHANNEL_LOGOUT={"redis": shared_redis.url, "app": app} | options,
                MIDDLEWARE=list(middleware),
                SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}",
            )
        )
        overrides[-1].enable()
        return Browser(runner)

    yield new
    for override in reversed(overrides):
        override.disable()
    for one in of_threads:
        one.close()
    if runner:
        for guard in guards:
            runner.run(guard.aclose())
        runner.run(sync_to_async(connections.close_all)())
        runner.close()


numbers = itertools.count()


@pytest.fixture
def app() -> str:
    """An app name that is unique on the shared server."""
    return f"django-{next(numbers)}"


@pytest.fixture
def store(shared_redis: RedisServer, app: str) -> Iterator[redis.Redis]:
    with shared_redis.client() as client:
        client.hset(AppKeys(app).meta, mapping={"v": "1", "max_session_age": "86400"})
        yield client


def remembered(user: str, sid: str | None = "sid-1") -> dict[str, Any]:
    return {"iss": OP, "sub": user, "sid": sid, "login_at": LOGIN, "client_id": "shop-web"}


# -- alive and dead ------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_public_requests_and_a_live_session_pass(new_browser: NewBrowser) -> None:
    browser = new_browser()
    assert browser.get("/me").json()["user"] is None
    browser.sign_in("alice")
    answer = browser.get("/me")
    assert answer.status_code == 200
    assert answer.json() | {"user": ""} == {"user": "", **remembered("alice")}


MARKERS: dict[str, Callable[[AppKeys], str]] = {
    "session id": lambda keys: keys.sid(OP, "sid-1"),
    "user": lambda keys: keys.sub(OP, "alice"),
}


@pytest.mark.parametrize("marker", MARKERS.values(), ids=MARKERS)
def test_a_dead_session_is_flushed_and_its_neighbour_lives(
    marker: Callable[[AppKeys], str], new_browser: NewBrowser, app: str, store: redis.Redis
) -> None:
    phone, laptop = new_browser(), new_browser()
    phone.sign_in("alice", "sid-1")
    laptop.sign_in("bob", "sid-2")
    copied = phone.cookies["sessionid"].value
    store.set(marker(AppKeys(app)), LOGIN)

    answer = phone.get("/me")
    assert answer.status_code == 401
    assert answer.json() == {"error": "session_ended"}
    assert answer["Cache-Control"] == "no-store"
    assert phone.get("/me").json()["user"] is None
    assert laptop.get("/me").json() | {"user": ""} == {"user": "", **remembered("bob", "sid-2")}

    phone.cookies["sessionid"] = copied
    assert phone.get("/me").json()["user"] is None


def test_a_page_of_a_dead_session_goes_to_the_login_and_not_round_in_circles(
    new_browser: NewBrowser, app: str, store: redis.Redis
) -> None:
    browser = new_browser()
    browser.sign_in("alice")
    store.set(AppKeys(app).sid(OP, "sid-1"), LOGIN)
    answer = browser.get("/me", PAGE)
    assert (answer.status_code, answer["Location"]) == (303, "/login")
    assert answer["Cache-Control"] == "no-store"
    assert answer.cookies["bcl_ended"]["httponly"]
    assert answer.cookies["sessionid"].value == ""

    browser.sign_in("alice")  # with the same sid, as some providers do
    answer = browser.get("/me", PAGE)
    assert answer.status_code == 401
    assert b"signed out again" in answer.content


@pytest.mark.parametrize(
    ("options", "location"),
    [
        ({"login_url": "/elsewhere?a=b"}, "/elsewhere?a=b"),
        ({"login_url": "sign-in-page"}, "/sign-in"),
        ({"login_url": None}, None),
    ],
    ids=["path", "name", "none"],
)
def test_the_login_is_a_path_or_a_name_or_nowhere(
    options: dict[str, Any],
    location: str | None,
    new_browser: NewBrowser,
    app: str,
    store: redis.Redis,
) -> None:
    browser = new_browser(**options)
    browser.sign_in("alice")
    store.set(AppKeys(app).sid(OP, "sid-1"), LOGIN)
    answer = browser.get("/me", PAGE)
    assert answer.status_code == (401 if location is None else 303)
    assert answer.get("Location") == location


@pytest.mark.parametrize("engine", ["cache", "cached_db", "signed_cookies"])
def test_every_kind_of_session_can_end(
    engine: str, new_browser: NewBrowser, app: str, store: redis.Redis
) -> None:
    """The other tests use sessions in the database."""
    browser = new_browser(engine=engine)
    browser.sign_in("alice")
    assert browser.get("/me").json()["sub"] == "alice"
    copied = browser.cookies["sessionid"].value
    store.set(AppKeys(app).sid(OP, "sid-1"), LOGIN)
    assert browser.get("/me").status_code == 401
    assert browser.get("/me").json()["user"] is None
    browser.cookies["sessionid"] = copied
    assert browser.get("/me").status_code == (401 if engine == "signed_cookies" else 200)
    assert browser.get("/me").json()["user"] is None


@pytest.mark.usefixtures("store")
def test_the_middleware_does_not_query_the_database(new_browser: NewBrowser) -> None:
    browser = new_browser(engine="cache")
    browser.sign_in("alice")
    with CaptureQueriesContext(connections["default"]) as queries:
        assert browser.get("/me").json()["sub"] == "alice"
    assert len(queries) == 0


def test_it_runs_in_the_way_that_the_server_does() -> None:
    """A sync middleware would cost each request a thread."""

    async def ame(request: HttpRequest) -> HttpResponse:
        return me(request)

    with override_settings(BACKCHANNEL_LOGOUT=GOOD):
        assert iscoroutinefunction(BackchannelLogoutMiddleware(ame))
        assert not iscoroutinefunction(BackchannelLogoutMiddleware(me))


@pytest.mark.usefixtures("store")
def test_each_event_loop_has_its_own_connections_and_leaves_none_behind(
    app: str, shared_redis: RedisServer
) -> None:
    """As Django runs async code under WSGI: one loop per request."""

    async def ame(request: HttpRequest) -> HttpResponse:
        return me(request)

    options = {"redis": shared_redis.url, "app": app, "timeout": PATIENCE}
    with override_settings(BACKCHANNEL_LOGOUT=options):
        middleware = BackchannelLogoutMiddleware(ame)
    for _ in range(3):
        request = HttpRequest()
        request.session = SessionStore()
        request.session.update(remembered("alice"))
        with asyncio.Runner() as runner:
            assert runner.run(middleware(request)).status_code == 200
            (guard,) = middleware._guards.values()
            runner.run(guard.aclose())


# -- when the state is unknown -------------------------------------------------------------


def test_without_redis_it_is_503_and_the_session_stays(
    new_browser: NewBrowser, app: str, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.hset(AppKeys(app).meta, mapping={"v": "1", "max_session_age": "86400"})
    browser = new_browser(redis=redis_server.url)
    browser.sign_in("alice")
    assert browser.get("/me").status_code == 200

    redis_server.stop()
    answer = browser.get("/me")
    assert answer.status_code == 503
    assert answer["Cache-Control"] == "no-store"
    assert int(answer["Retry-After"]) > 0
    assert browser.get("/me", PAGE).status_code == 503

    redis_server.start()
    assert browser.get("/me").json()["sub"] == "alice"


def test_an_outage_can_be_allowed(new_browser: NewBrowser) -> None:
    browser = new_browser(redis=f"redis://127.0.0.1:{free_port()}/0", on_outage="allow")
    browser.sign_in("alice")
    assert browser.get("/me").json()["sub"] == "alice"


# -- logins --------------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("order", ["before", "after"])
def test_a_login_over_that_of_another_user_is_remembered(
    order: str, new_browser: NewBrowser
) -> None:
    """login() drops everything that was stored before it, so the login must be stored later."""
    browser = new_browser()
    alice = browser.sign_in("alice", "sid-1")["user"]
    bob = browser.sign_in("bob", "sid-2", order)["user"]
    assert alice != bob
    assert browser.get("/me").json() == {"user": bob, **remembered("bob", "sid-2")}


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("order", ["before", "after"])
def test_another_login_of_the_same_user_replaces_the_one_before(
    order: str, new_browser: NewBrowser
) -> None:
    browser = new_browser()
    browser.sign_in("alice", "sid-1")
    browser.sign_in("alice", "sid-2", order)
    assert browser.get("/me").json() | {"user": ""} == {"user": "", **remembered("alice", "sid-2")}


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("user", ["alice", "bob"], ids=["of the same user", "of another"])
def test_a_login_with_a_password_forgets_the_login_before_it(
    user: str, new_browser: NewBrowser
) -> None:
    browser = new_browser(on_unidentified="allow")
    browser.sign_in("alice")
    assert browser.sign_in(user, order="without") | {"user": ""} == {"user": "", **FORGOTTEN}
    answer = browser.get("/me").json()
    assert answer.pop("user") is not None
    assert answer == FORGOTTEN


def test_a_session_of_an_earlier_release_ends(
    new_browser: NewBrowser, app: str, store: redis.Redis
) -> None:
    browser = new_browser()
    browser.get("/of-earlier-release?user=alice&sid=sid-1")
    old = remembered("alice")
    del old["client_id"]
    assert browser.get("/me").json() | {"user": ""} == {"user": "", **old}
    store.set(AppKeys(app).sid(OP, "sid-1"), LOGIN)
    assert browser.get("/me").json() == {"error": "session_ended"}
    assert browser.get("/me").json() == {"user": None, **FORGOTTEN}


@pytest.mark.usefixtures("store")
def test_a_login_with_a_password_forgets_one_of_an_earlier_release(new_browser: NewBrowser) -> None:
    browser = new_browser(on_unidentified="allow")
    browser.get("/of-earlier-release?user=alice&sid=sid-1")
    browser.sign_in("alice", order="without")
    answer = browser.get("/me").json()
    assert answer.pop("user") is not None
    assert answer == FORGOTTEN


@pytest.mark.usefixtures("store")
def test_a_call_without_a_login_changes_nothing_and_is_logged(
    new_browser: NewBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    """As at a refresh of the tokens, or when the user may not sign in after all."""
    browser = new_browser()
    alice = browser.sign_in("alice", "sid-1")["user"]
    assert caplog.records == []
    browser.sign_in("bob", "sid-2", order="never")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "without django.contrib.auth.login()" in caplog.text
    assert browser.get("/me").json() == {"user": alice, **remembered("alice", "sid-1")}


@pytest.mark.usefixtures("store")
def test_it_is_remembered_through_a_wrapper_of_the_request(new_browser: NewBrowser) -> None:
    browser = new_browser()
    assert browser.get("/wrapped-login?user=alice&sid=sid-1").json()["sub"] == "alice"
    assert browser.get("/me").json()["sub"] == "alice"


def test_claims_of_no_id_token_are_refused_where_remember_is_called() -> None:
    request = HttpRequest()
    with pytest.raises(SessionNotIdentified):
        remember(request, {"iss": OP, "sub": "alice"})


def test_a_login_signal_without_a_session_is_left_alone() -> None:
    """Logins with a token send the signal too."""
    backchannel_logout.django._on_login(request=HttpRequest())


# -- a session without `remember` ----------------------------------------------------------


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(("option", "status"), [(None, 401), ("end", 401), ("allow", 200)])
def test_an_unidentified_session_ends_or_is_allowed_and_is_logged_once(
    option: str | None,
    status: int,
    new_browser: NewBrowser,
    caplog: pytest.LogCaptureFixture,
) -> None:
    browser = new_browser(**({} if option is None else {"on_unidentified": option}))
    for _ in range(2):
        browser.sign_in("alice", order="without")
        assert browser.get("/me").status_code == status
    logged = [record for record in caplog.records if record.name == "backchannel_logout"]
    assert len(logged) == 1
    assert f"on_unidentified={option or 'end'}" in logged[0].getMessage()


# -- mistakes ------------------------------------------------------------------------------


@pytest.mark.parametrize("middleware", [(OURS, SESSIONS), (OURS,)], ids=["swapped", "alone"])
def test_a_wrong_order_is_loud_at_the_first_request(
    middleware: tuple[str, ...], new_browser: NewBrowser
) -> None:
    with pytest.raises(NoSession, match=r"swap the entries of MIDDLEWARE.*must come after"):
        new_browser(middleware).get("/me")


GOOD = {"redis": "redis://127.0.0.1/0", "app": "shop"}

FAULTS: dict[str, tuple[Any, str]] = {
    "none": (None, "must be a dict"),
    "not a dict": ("redis://127.0.0.1/0", "must be a dict"),
    "nothing": ({}, "'redis' is missing; 'app' is missing"),
    "unknown": (GOOD | {"app_name": "shop"}, "'app_name' is not an option"),
    "two": (GOOD | {"login": "/", "on_outage": "ignore"}, "'login' .* 'on_outage'"),
    "redis none": (GOOD | {"redis": None}, "'redis' must be"),
    "redis http": (GOOD | {"redis": "http://127.0.0.1/"}, "'redis' must be"),
    "redis port": (GOOD | {"redis": "redis://u:sesame/x@127.0.0.1/"}, "'redis' must be"),
    "app": (GOOD | {"app": "Shop"}, "'app' must be"),
    "app none": (GOOD | {"app": None}, "'app' must be"),
    "login_url": (GOOD | {"login_url": 5}, "'login_url' must be"),
    "login_url no name": (GOOD | {"login_url": "no-such-view"}, "no-such-view"),
    "login_url with a line break": (GOOD | {"login_url": "/a\nb"}, "not a URL"),
    "on_unidentified": (GOOD | {"on_unidentified": "End"}, "'on_unidentified' must be"),
    "on_outage": (GOOD | {"on_outage": []}, "'on_outage' must be"),
    "timeout": (GOOD | {"timeout": 0}, "'timeout' must be"),
    "near cache": (GOOD | {"near_cache": -1}, "'near_cache' must be"),
    "near cache text": (GOOD | {"near_cache": "yes"}, "'near_cache' must be"),
    "max stale": (GOOD | {"max_stale": 0}, "'max_stale' must be"),
    "timeout text": (GOOD | {"timeout": "1"}, "'timeout' must be"),
    "timeout true": (GOOD | {"timeout": True}, "'timeout' must be"),
    "max_session_age": (GOOD | {"max_session_age": 1.5}, "'max_session_age' must be"),
}


@pytest.mark.parametrize(("given", "message"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_setting_stops_the_start(given: Any, message: str) -> None:
    with (
        override_settings(BACKCHANNEL_LOGOUT=given),
        pytest.raises(ImproperlyConfigured, match=message) as caught,
    ):
        BackchannelLogoutMiddleware(me)
    assert "sesame" not in str(caught.value)


def test_every_option_is_taken() -> None:
    options = {
        "login_url": "/login", "on_unidentified": "allow", "on_outage": "allow", "timeout": 0.2,
        "near_cache": True, "max_stale": 2,
        "max_session_age": 3600,
    }  # fmt: skip
    with override_settings(BACKCHANNEL_LOGOUT=GOOD | options):
        BackchannelLogoutMiddleware(me)


def test_the_package_itself_does_not_load_django(tmp_path: Path) -> None:
    code = "import sys, backchannel_logout; sys.exit('django' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
