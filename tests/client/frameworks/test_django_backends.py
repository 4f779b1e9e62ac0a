"""Django with two ways to sign in: OpenID Connect, and a password as for `/admin`."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.contrib import auth
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path

import backchannel_logout.django
from backchannel_logout import AppKeys, SessionGuard
from backchannel_logout.django import BackchannelLogoutMiddleware, remember
from tests.support.apps.django_project import django_project
from tests.support.patience import PATIENCE
from tests.support.servers.redis_server import RedisServer

OP = "https://op.example/"
LOGIN = int(time.time()) - 600
PASSWORD_BACKEND = "django.contrib.auth.backends.ModelBackend"
OIDC_BACKEND = "tests.client.frameworks.oidc_backend.OidcBackend"
numbers = itertools.count()


def me(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"user": request.user.get_username()})


def with_a_password(request: HttpRequest) -> HttpResponse:
    user = auth.authenticate(request, username="admin", password="sesame")
    assert user is not None
    auth.login(request, user)
    return me(request)


def with_openid_connect(request: HttpRequest) -> HttpResponse:
    user, _ = auth.get_user_model().objects.get_or_create(username="alice")
    if "forgotten" not in request.GET:
        remember(request, {"iss": OP, "sub": "alice", "sid": "sid-1", "iat": LOGIN})
    auth.login(request, user, backend=OIDC_BACKEND)
    request.session["oidc"] = True
    return me(request)


class Urls:
    urlpatterns = [  # noqa: RUF012  Django's name
        path("me", me),
        path("password", with_a_password),
        path("oidc", with_openid_connect),
    ]


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with django_project(tmp_path_factory.mktemp("django")):
        yield


@pytest.fixture
def app() -> str:
    return f"django-backends-{next(numbers)}"


@pytest.fixture
def store(shared_redis: RedisServer, app: str) -> Iterator[redis.Redis]:
    with shared_redis.client() as client:
        client.hset(AppKeys(app).meta, mapping={"v": "1", "max_session_age": "86400"})
        yield client


OPTIONS: dict[str, dict[str, Any]] = {
    "backends": {"backends": [OIDC_BACKEND]},
    "a member": {"signed_in": "oidc"},
    "a function": {"signed_in": lambda session: session.get("_auth_user_backend") == OIDC_BACKEND},
}


@pytest.fixture
def browsers(app: str, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    guards: list[SessionGuard] = []

    def new_guard(**options: Any) -> SessionGuard:
        guards.append(SessionGuard(**({"timeout": PATIENCE} | options)))
        return guards[-1]

    monkeypatch.setattr(backchannel_logout.django, "SessionGuard", new_guard)
    with override_settings(
        ROOT_URLCONF=Urls,
        AUTHENTICATION_BACKENDS=[OIDC_BACKEND, PASSWORD_BACKEND],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "backchannel_logout.django.BackchannelLogoutMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
    ):
        users = auth.get_user_model().objects
        if not users.filter(username="admin").exists():
            users.create_superuser("admin", password="sesame")

        def new(**options: Any) -> Client:
            chosen = {"redis": shared_redis.url, "app": app} | options
            stack.append(override_settings(BACKCHANNEL_LOGOUT=chosen))
            stack[-1].enable()
            return Client()

        stack: list[Any] = []
        yield new
        for one in reversed(stack):
            one.disable()
    for guard in guards:
        guard.close()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_password_sign_in_lives_and_an_openid_connect_session_ends_with_its_logout(
    options: dict[str, Any], browsers: Any, app: str, store: redis.Redis
) -> None:
    admin, alice = browsers(**options), browsers(**options)
    assert admin.get("/password").status_code == 200
    assert admin.get("/me").json() == {"user": "admin"}
    assert alice.get("/oidc").status_code == 200
    assert alice.get("/me").json() == {"user": "alice"}
    store.set(AppKeys(app).sid(OP, "sid-1"), LOGIN)
    assert alice.get("/me").status_code == 401
    assert admin.get("/me").json() == {"user": "admin"}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_an_openid_connect_session_that_was_not_remembered_still_ends(
    options: dict[str, Any], browsers: Any
) -> None:
    alice = browsers(**options)
    alice.get("/oidc?forgotten")
    assert alice.get("/me").status_code == 401


def test_without_the_option_every_sign_in_must_be_remembered(browsers: Any) -> None:
    admin = browsers()
    admin.get("/password")
    assert admin.get("/me").status_code == 401


def test_a_password_sign_in_over_an_openid_connect_session_is_not_ended_with_it(
    browsers: Any, app: str, store: redis.Redis
) -> None:
    browser = browsers(**OPTIONS["backends"])
    browser.get("/oidc")
    browser.get("/password")
    store.set(AppKeys(app).sid(OP, "sid-1"), LOGIN)
    assert browser.get("/me").json() == {"user": "admin"}


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"backends": ["shop.Backend"]}, "AUTHENTICATION_BACKENDS does not have"),
    "text": ({"backends": OIDC_BACKEND}, "'backends' must be"),
    "empty": ({"backends": []}, "'backends' must be"),
    "signed_in": ({"signed_in": 5}, "'signed_in' must be"),
    "both": ({"signed_in": "oidc", "backends": [OIDC_BACKEND]}, "are alternatives"),
}


@pytest.mark.parametrize(("options", "message"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_option_stops_the_start(options: dict[str, Any], message: str) -> None:
    given = {"redis": "redis://127.0.0.1/0", "app": "shop"} | options
    with (
        override_settings(BACKCHANNEL_LOGOUT=given, AUTHENTICATION_BACKENDS=[OIDC_BACKEND]),
        pytest.raises(ImproperlyConfigured, match=message),
    ):
        BackchannelLogoutMiddleware(me)
