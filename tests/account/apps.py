"""Relying apps of each framework, with the account's route in them: ``python -m tests.account.apps
KIND PORT``. They read ACCOUNT_URL, ACCOUNT_TOKEN, REDIS_URL and APP from the environment.

GET  /sign-in?...   remembers the login that the query tells of, as a callback does
GET  /me            200, or 401 where the app's session has ended
GET  /me/security   the account's page once more, as /account

GET  /embedded      a page of the app's own with the component in it, under a strict policy
"""

import os
import socketserver
import sys
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import flask
import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from backchannel_logout import AsyncSessionGuard, remember
from backchannel_logout.account.asgi import account_app
from backchannel_logout.account.django import account_view
from backchannel_logout.account.flask import account_blueprint
from backchannel_logout.asgi import BackchannelLogoutMiddleware

PAGE = """<!doctype html><html lang="en"><title>Shop</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<script type="module" src="/account/active-sessions.js"></script>
<main><h1>Shop</h1><active-sessions sign-in-url="/signed-out"></active-sessions></main>"""

POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:"

URL, TOKEN = os.environ.get("ACCOUNT_URL", ""), os.environ.get("ACCOUNT_TOKEN", "")


def claims(query: Any) -> dict[str, Any]:
    """Those of the ID token, as a test chooses them."""
    return {**{name: query[name] for name in ("iss", "sub", "sid")}, "iat": int(query["iat"])}


def starlette_app() -> Any:
    def sign_in(request: Request) -> Response:
        remember(request.session, claims(request.query_params))
        request.session["name"] = "somebody"
        return JSONResponse({})

    def me(request: Request) -> Response:
        return JSONResponse({}, 200 if "name" in request.session else 401)

    def embedded(_: Request) -> Response:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})

    guard = AsyncSessionGuard(os.environ["REDIS_URL"], app=os.environ["APP"])
    return Starlette(
        routes=[
            Mount("/account", account_app(URL, TOKEN)),
            Mount("/me/security", account_app(URL, TOKEN)),
            # Where the front end of Auth0's own sample asks.
            Mount("/api/auth/user", account_app(URL, TOKEN)),
            Route("/sign-in", sign_in),
            Route("/me", me),
            Route("/embedded", embedded),
            Route("/signed-out", lambda _: HTMLResponse("Signed out")),
        ],
        middleware=[
            Middleware(SessionMiddleware, secret_key="of this test"),
            Middleware(BackchannelLogoutMiddleware, guard=guard, signed_in="name"),
        ],
    )


def flask_app() -> Any:
    app = flask.Flask("shop")
    app.secret_key = "of this test"
    app.register_blueprint(account_blueprint(URL, TOKEN))
    app.register_blueprint(account_blueprint(URL, TOKEN, prefix="/me/security"), name="below")

    @app.get("/sign-in")
    def sign_in() -> dict[str, Any]:
        remember(flask.session, claims(flask.request.args))
        return {}

    return app


def django_app(*, asgi: bool) -> Any:
    settings.configure(
        SECRET_KEY="of this test", ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=type("Urls", (), {}),
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
        ],
    )  # fmt: skip

    def sign_in(request: HttpRequest) -> HttpResponse:
        remember(request.session, claims(request.GET))
        return HttpResponse()

    view = account_view(URL, TOKEN)
    settings.ROOT_URLCONF.urlpatterns = [
        path("account", view), path("account/<path:rest>", view), path("sign-in", sign_in),
        path("me/security", view), path("me/security/<path:rest>", view),
    ]  # fmt: skip
    return get_asgi_application() if asgi else get_wsgi_application()


class _Threads(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


APPS = {
    "starlette": starlette_app,
    "flask": flask_app,
    "django-asgi": lambda: django_app(asgi=True),
    "django-wsgi": lambda: django_app(asgi=False),
}


def main(kind: str, port: int) -> None:
    app = APPS[kind]()
    if kind in ("starlette", "django-asgi"):
        uvicorn.run(app, port=port, access_log=False, log_level="warning")
    else:
        make_server("127.0.0.1", port, app, _Threads, _Quiet).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
