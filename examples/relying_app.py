"""A relying app (Starlette): signs users in with OpenID Connect; out, when their provider says so.

Three lines do the second part: the guard, the middleware, and `remember` at the login. Here the
session is a signed cookie, so nothing else could end it: whoever has a copy has the session.

``python -m examples.relying_app`` reads ISSUER, CLIENT_ID, CLIENT_SECRET, REDIS_URL, APP (its
name in the receiver's settings), SESSION_SECRET, PORT and HOST (loopback unless in a container)
from the environment. With ACCOUNT_URL (the receiver's ``account_listen``) and ACCOUNT_TOKEN it
also shows its users their own sessions.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import escape
from typing import cast

import uvicorn
from authlib.integrations.starlette_client import OAuth, OAuthError  # type: ignore[import-untyped]
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Lifespan

from backchannel_logout import AsyncSessionGuard, remember
from backchannel_logout.account.asgi import account_app
from backchannel_logout.asgi import BackchannelLogoutMiddleware

NO_STORE = {"Cache-Control": "no-store"}
STYLE = "body{font:18px/1.6 system-ui,sans-serif;max-width:38rem;margin:12vh auto;padding:0 1rem}"
SIGN_IN = '<p><a href="/login">Sign in</a></p>'
SESSIONS = """
<script type="module" src="/account/active-sessions.js"></script>
<active-sessions sign-in-url="/login"></active-sessions>"""
SIGN_OUT = '<form method="post" action="/logout"><button>Sign out</button></form>'


def create_app(environ: Mapping[str, str]) -> Starlette:
    """The app, with the settings that the module's docstring names."""
    issuer, here = environ["ISSUER"], f"http://127.0.0.1:{environ['PORT']}"
    sessions_url = "/sessions" if "ACCOUNT_URL" in environ else f"{issuer}/sessions"
    guard = AsyncSessionGuard(environ["REDIS_URL"], app=environ["APP"])
    provider = OAuth().register(
        "provider",
        server_metadata_url=f"{issuer}/.well-known/openid-configuration",
        client_id=environ["CLIENT_ID"],
        client_secret=environ["CLIENT_SECRET"],
        client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
    )

    async def login(request: Request) -> Response:
        return cast("Response", await provider.authorize_redirect(request, f"{here}/callback"))

    async def callback(request: Request) -> Response:
        try:
            claims = (await provider.authorize_access_token(request))["userinfo"]
        except OAuthError:
            return page("The sign-in did not work.", SIGN_IN, 400)
        request.session.clear()
        remember(request.session, claims)
        request.session["name"] = claims["name"]
        return RedirectResponse("/", 303, NO_STORE)

    async def home(request: Request) -> Response:
        if "name" not in request.session:
            return page("You are not signed in.", SIGN_IN)
        link = f'<p><a href="{escape(sessions_url)}">Your sessions</a></p>'
        return page(f"You are signed in as {request.session['name']}.", link + SIGN_OUT)

    async def ended(_: Request) -> Response:
        return page("Your session was ended by your provider.", SIGN_IN)

    async def me(request: Request) -> Response:
        if "name" not in request.session:
            return JSONResponse({"error": "not_signed_in"}, 401, NO_STORE)
        return JSONResponse(request.session, 200, NO_STORE)

    async def logout(request: Request) -> Response:
        """Sign out here, and let the provider end its own session."""
        client_id = environ["CLIENT_ID"]
        answer = await provider.logout_redirect(request, f"{here}/", client_id=client_id)
        request.session.clear()
        return cast("Response", answer)

    return Starlette(
        lifespan=closing(guard),
        routes=[
            *account_routes(environ),
            Route("/", home),
            Route("/me", me),
            Route("/login", login),
            Route("/callback", callback),
            Route("/ended", ended),
            Route("/logout", logout, methods=["POST"]),
        ],
        middleware=[
            Middleware(
                SessionMiddleware, secret_key=environ["SESSION_SECRET"], session_cookie="shop"
            ),
            Middleware(
                BackchannelLogoutMiddleware, guard=guard, signed_in="name", login_url="/ended"
            ),
        ],
    )


def account_routes(environ: Mapping[str, str]) -> list[BaseRoute]:
    """A page of the user's own sessions, and what it asks, behind the app's own cookie."""
    if "ACCOUNT_URL" not in environ:
        return []
    return [
        Mount("/account", account_app(environ["ACCOUNT_URL"], environ["ACCOUNT_TOKEN"])),
        Route("/sessions", lambda _: page("Where you are signed in.", SESSIONS)),
    ]


def closing(guard: AsyncSessionGuard) -> Lifespan[Starlette]:
    """A lifespan of the app that ends with the guard's connections."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with guard:
            yield

    return lifespan


def page(sentence: str, body: str, status: int = 200) -> HTMLResponse:
    """A page for people; ``sentence`` is escaped here, ``body`` by its writer."""
    html = f"<!doctype html><title>Shop</title><style>{STYLE}</style><h1>Shop</h1>"
    return HTMLResponse(f"{html}<p>{escape(sentence)}</p>{body}", status, NO_STORE)


if __name__ == "__main__":
    # The access log would hold the codes.
    uvicorn.run(
        create_app(os.environ),
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ["PORT"]),
        access_log=False,
    )
