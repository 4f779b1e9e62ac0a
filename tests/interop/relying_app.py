"""A relying app over HTTP, in a thread of its own.

GET  /login      to the provider, and back to
GET  /callback   which opens the app's session and remembers the login
GET  /me         200, or 401 when the guard reports the session as dead
GET  /refresh    new tokens; the remembered login stays
GET  /sign-out   to the provider's sign-out; the app keeps its session, so that only the
                 back channel can end it
"""

import contextlib
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from backchannel_logout import AsyncSessionGuard, remember
from backchannel_logout.contract.session import MEMBER
from tests.interop.browser import loopback_only
from tests.interop.oidc_client import Attempt, OidcClient, Tokens


class RelyingApp:
    """The app ``name``: one client of one issuer. It never drops a session on its own."""

    def __init__(
        self, name: str, *, issuer: str, alg: str, ask: Mapping[str, str], redis_url: str
    ) -> None:
        self.name = name
        self.ask = ask
        """The authorization parameters of its next sign-in."""
        self.client_id = f"{name}-web"
        self.sessions: dict[str, dict[str, Any]] = {}
        """By the value of the session cookie."""
        self.tokens: dict[str, Tokens] = {}
        """The newest of each session."""
        self._attempts: dict[str, Attempt] = {}
        self._issuer = issuer
        self._alg = alg
        self._redis_url = redis_url
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.redirect_uri = f"{self.url}/callback"
        # Cookies ignore ports, so each app on this host needs its own name.
        self.cookie = f"session-{name}"
        self._server = uvicorn.Server(
            uvicorn.Config(self._starlette(), log_config=None, access_log=False, ws="none")
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    def _starlette(self) -> Starlette:
        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with (
                AsyncSessionGuard(self._redis_url, app=self.name) as self._guard,
                httpx.AsyncClient(**loopback_only()) as http,
            ):
                self._oidc = OidcClient(
                    http, self._issuer, self.client_id, self._alg, self.redirect_uri
                )
                yield

        routes = [
            Route("/login", self._login),
            Route("/callback", self._callback),
            Route("/me", self._me),
            Route("/refresh", self._refresh),
            Route("/sign-out", self._sign_out),
        ]
        return Starlette(routes=routes, lifespan=lifespan)

    async def _login(self, _: Request) -> Response:
        attempt = Attempt()
        self._attempts[attempt.state] = attempt
        return RedirectResponse(await self._oidc.authorization_url(attempt, self.ask))

    async def _callback(self, request: Request) -> Response:
        attempt = self._attempts.pop(request.query_params["state"])
        tokens = await self._oidc.exchange(request.query_params["code"], attempt)
        key = secrets.token_urlsafe()
        self.tokens[key] = tokens
        self.sessions[key] = {}
        remember(self.sessions[key], tokens.claims)
        response = RedirectResponse("/me", status_code=303)
        response.set_cookie(self.cookie, key, httponly=True)
        return response

    async def _me(self, request: Request) -> Response:
        session = self.sessions[request.cookies[self.cookie]]
        if await self._guard.is_revoked(session):
            return JSONResponse({"error": "signed_out"}, status_code=401)
        return JSONResponse({"user": session[MEMBER]["sub"]})

    async def _refresh(self, request: Request) -> Response:
        key = request.cookies[self.cookie]
        self.tokens[key] = await self._oidc.refresh(self.tokens[key].refresh_token)
        return Response(status_code=204)

    async def _sign_out(self, request: Request) -> Response:
        id_token = self.tokens[request.cookies[self.cookie]].id_token
        return RedirectResponse(await self._oidc.end_session_url(id_token))
