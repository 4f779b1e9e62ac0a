"""A relying app (Starlette): users sign in with OpenID Connect, and the provider signs them out.

Three lines do the sign-out: the guard, the middleware, and `remember` at the login. The session is
a signed cookie here, so nothing else could end it: a copy of the cookie is the session.

``python -m examples.relying_app`` reads ISSUER, CLIENT_ID, CLIENT_SECRET, REDIS_URL, APP (its
name in the receiver's settings), SESSION_SECRET, PORT and HOST (loopback unless in a container)
from the environment; PUBLIC_URL if browsers do not reach it at ``http://127.0.0.1:PORT``. With
ACCOUNT_URL (the receiver's ``account_listen``) and ACCOUNT_TOKEN it also shows users their own
sessions.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import escape
from typing import Any, cast

import httpx2
import uvicorn
from authlib.integrations.starlette_client import OAuth, OAuthError  # type: ignore[import-untyped]
from joserfc.errors import JoseError
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
SIGN_IN = '<p><a href="/login">Sign in</a></p>'
SESSIONS = """
<script type="module" src="/account/active-sessions.js"></script>
<active-sessions sign-in-url="/login"></active-sessions>
<p><a href="/">Back to the shop</a></p>"""
SIGN_OUT = '<form method="post" action="/logout"><button>Sign out</button></form>'
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Shop</title>
<link rel="icon" href="data:,">
<style>
html { background: Canvas; color: CanvasText }
button { font: inherit }
body { font: 18px/1.6 system-ui, sans-serif; max-width: 38rem; margin: 12vh auto; padding: 0 1rem }
</style>
</head>
<body><main><h1>Shop</h1>"""

# Browsers drop a cookie of more than 4,096 bytes, and the sign-in with it.
MAX_HINT = 2048


def create_app(environ: Mapping[str, str]) -> Starlette:
    """The app, with the settings in the module's docstring."""
    issuer = environ["ISSUER"]
    here = environ.get("PUBLIC_URL", f"http://127.0.0.1:{environ['PORT']}").rstrip("/")
    sessions_url = "/sessions" if "ACCOUNT_URL" in environ else f"{issuer}/sessions"
    guard = AsyncSessionGuard(environ["REDIS_URL"], app=environ["APP"])
    provider = OAuth().register(
        "provider",
        server_metadata_url=f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        client_id=environ["CLIENT_ID"],
        client_secret=environ["CLIENT_SECRET"],
        client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
    )

    async def login(request: Request) -> Response:
        return cast("Response", await provider.authorize_redirect(request, f"{here}/callback"))

    async def callback(request: Request) -> Response:
        """Authlib checks state, PKCE and nonce, and verifies the ID token."""
        try:
            token = await provider.authorize_access_token(
                request, claims_options={"iss": {"essential": True, "value": issuer}}
            )
            signed_in(request.session, token)
        except (OAuthError, JoseError, httpx2.HTTPError, KeyError, ValueError):
            return page("The sign-in did not work.", SIGN_IN, 400)
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
        return JSONResponse({"name": request.session["name"]}, 200, NO_STORE)

    async def logout(request: Request) -> Response:
        return await signed_out(request, provider, environ["CLIENT_ID"], f"{here}/")

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
                SessionMiddleware,
                secret_key=environ["SESSION_SECRET"],
                session_cookie="shop",
                https_only=here.startswith("https:"),
            ),
            Middleware(
                BackchannelLogoutMiddleware, guard=guard, signed_in="name", login_url="/ended"
            ),
        ],
    )


def signed_in(session: dict[str, Any], token: Mapping[str, Any]) -> None:
    """Open the app's own session, from the token endpoint's response."""
    claims = token["userinfo"]
    session.clear()
    remember(session, claims)
    # A provider may send only iss, sub, aud, exp, iat and nonce.
    session["name"] = str(claims.get("name") or claims["sub"])
    if len(token["id_token"]) <= MAX_HINT:
        session["id_token"] = token["id_token"]


async def signed_out(request: Request, provider: Any, client_id: str, back: str) -> Response:
    """Sign out here, and let the provider end its own session.

    The browser ends at ``back`` in any case; its ``state`` is not compared, since nothing there
    depends on it.
    """
    id_token = request.session.get("id_token")
    request.session.clear()
    try:
        answer = await provider.logout_redirect(
            request, back, id_token_hint=id_token, client_id=client_id
        )
    except (RuntimeError, httpx2.HTTPError):  # no such endpoint, or the provider is down
        return RedirectResponse(back, 303, NO_STORE)
    return cast("Response", answer)


def account_routes(environ: Mapping[str, str]) -> list[BaseRoute]:
    """The page of the user's own sessions and its API, behind the app's own cookie."""
    if "ACCOUNT_URL" not in environ:
        return []
    return [
        Mount("/account", account_app(environ["ACCOUNT_URL"], environ["ACCOUNT_TOKEN"])),
        Route("/sessions", lambda _: page("Where you are signed in.", SESSIONS)),
    ]


def closing(guard: AsyncSessionGuard) -> Lifespan[Starlette]:
    """A lifespan that closes the guard at its end."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with guard:
            yield

    return lifespan


def page(sentence: str, body: str, status: int = 200) -> HTMLResponse:
    """An HTML page; ``sentence`` is escaped here, ``body`` must be HTML."""
    html = f"{PAGE}<p>{escape(sentence)}</p>{body}</main></body></html>"
    return HTMLResponse(html, status, NO_STORE)


if __name__ == "__main__":
    # An access log would contain authorization codes.
    uvicorn.run(
        create_app(os.environ),
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ["PORT"]),
        access_log=False,
    )
