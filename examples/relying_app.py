"""A relying app: signs users in with OpenID Connect, and out when their provider says so.

Four lines do the second part: the guard, `remember` at the login, `is_revoked` at each
request, and 503 where nobody knows. Here the session is a signed cookie, so nothing else
could end it: whoever has a copy of the cookie has the session.

``python -m examples.relying_app`` reads ISSUER, CLIENT_ID, CLIENT_SECRET, REDIS_URL, APP (its
name in the receiver's settings), SESSION_SECRET and PORT from the environment.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from html import escape
from typing import cast

import uvicorn

# Authlib comes without types.
from authlib.integrations.starlette_client import OAuth, OAuthError  # type: ignore[import-untyped]
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from backchannel_logout import AsyncSessionGuard, RevocationUnknown, remember

NO_STORE = {"Cache-Control": "no-store"}
STYLE = """:root{color-scheme:light dark} button{font:inherit}
body{font:18px/1.6 system-ui,sans-serif;max-width:38rem;margin:12vh auto;padding:0 1rem}"""
SIGN_IN = '<p><a href="/login">Sign in</a></p>'
SIGN_OUT = '<form method="post" action="/logout"><button>Sign out</button></form>'


class Shop:
    """The app, with the settings that the module's docstring names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._issuer, self._client_id = environ["ISSUER"], environ["CLIENT_ID"]
        self._here = f"http://127.0.0.1:{environ['PORT']}"
        self._guard = AsyncSessionGuard(environ["REDIS_URL"], app=environ["APP"])
        self._provider = OAuth().register(
            "provider",
            server_metadata_url=f"{self._issuer}/.well-known/openid-configuration",
            client_id=self._client_id,
            client_secret=environ["CLIENT_SECRET"],
            client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with self._guard:
            yield

    async def login(self, request: Request) -> Response:
        answer = await self._provider.authorize_redirect(request, f"{self._here}/callback")
        return cast("Response", answer)

    async def callback(self, request: Request) -> Response:
        try:
            claims = (await self._provider.authorize_access_token(request))["userinfo"]
        except OAuthError:
            return page("The sign-in did not work.", SIGN_IN, 400)
        request.session.clear()
        remember(request.session, claims)
        request.session["name"] = claims.get("name", claims["sub"])
        return RedirectResponse("/", 303, NO_STORE)

    async def _ended(self, request: Request) -> bool:
        """Whether the provider has ended this session; then it is cleared here, too."""
        if not await self._guard.is_revoked(request.session):
            return False
        request.session.clear()
        return True

    async def home(self, request: Request) -> Response:
        if "login_at" not in request.session:
            return page("You are not signed in.", SIGN_IN)
        if await self._ended(request):
            return page("Your session was ended by your provider.", SIGN_IN)
        link = f'<p><a href="{escape(self._issuer)}/sessions">Your sessions</a></p>'
        return page(f"You are signed in as {request.session['name']}.", link + SIGN_OUT)

    async def me(self, request: Request) -> Response:
        if "login_at" not in request.session:
            return JSONResponse({"error": "not_signed_in"}, 401, NO_STORE)
        if await self._ended(request):
            return JSONResponse({"error": "session_ended"}, 401, NO_STORE)
        return JSONResponse(request.session, 200, NO_STORE)

    async def logout(self, request: Request) -> Response:
        """Sign out here, and let the provider end its own session."""
        answer = await self._provider.logout_redirect(
            request, f"{self._here}/", client_id=self._client_id
        )
        request.session.clear()
        return cast("Response", answer)


async def unknown(request: Request, _: Exception) -> Response:
    """Redis did not answer. The session stays: its user has not been signed out."""
    if request.url.path == "/":
        return page("We can not check your session now. Please try again.", "", 503)
    return JSONResponse({"error": "temporarily_unavailable"}, 503, NO_STORE)


def page(sentence: str, body: str, status: int = 200) -> HTMLResponse:
    """A page for people; ``sentence`` is escaped here, ``body`` by its writer."""
    html = (
        '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">'
        f"<title>Shop</title><style>{STYLE}</style><h1>Shop</h1><p>{escape(sentence)}</p>{body}"
    )
    return HTMLResponse(html, status, NO_STORE)


def create_app(environ: Mapping[str, str]) -> Starlette:
    shop = Shop(environ)
    secret = environ["SESSION_SECRET"]
    return Starlette(
        routes=[
            Route("/", shop.home),
            Route("/me", shop.me),
            Route("/login", shop.login),
            Route("/callback", shop.callback),
            Route("/logout", shop.logout, methods=["POST"]),
        ],
        middleware=[Middleware(SessionMiddleware, secret_key=secret, session_cookie="shop")],
        exception_handlers={RevocationUnknown: unknown},
        lifespan=shop.lifespan,
    )


if __name__ == "__main__":
    # The access log would hold the codes.
    uvicorn.run(create_app(os.environ), port=int(os.environ["PORT"]), access_log=False)
