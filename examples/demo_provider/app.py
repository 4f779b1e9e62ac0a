"""The provider as one Starlette application."""

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .account import Account
from .authorization import Authorization
from .config import Config
from .end_session import EndSession
from .login import Login
from .session_api import SessionApi
from .state import Provider
from .token_endpoint import TokenEndpoint
from .tokens import ALGORITHM
from .web import COOKIE, redirect


def create_app(
    config: Config,
    key: rsa.RSAPrivateKey,
    http: httpx.AsyncClient,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """The provider. ``key`` signs; ``http`` sends the logout tokens, without following
    redirects.

    If the server runs the lifespan, a stop waits for deliveries in progress.
    """
    provider = Provider.build(config, key, http, clock)
    endpoints = (Authorization, TokenEndpoint, Login, Account, EndSession, SessionApi)
    routes = [route for endpoint in endpoints for route in endpoint(provider).routes]

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await provider.logouts.finish()

    return Starlette(
        routes=[*_documents(provider), *routes],
        lifespan=lifespan,
        middleware=[
            # HttpOnly and SameSite=Lax, until the browser is closed. Not Secure, because this is
            # plain http on loopback. Its content is valid only while the session is alive.
            Middleware(
                SessionMiddleware,
                secret_key=secrets.token_urlsafe(32),
                session_cookie=COOKIE,
                max_age=None,
            )
        ],
    )


def _documents(provider: Provider) -> list[Route]:
    async def discovery(_: Request) -> Response:
        return JSONResponse(_metadata(provider.config.issuer))

    async def jwks(_: Request) -> Response:
        return JSONResponse(provider.signer.jwks())

    async def home(_: Request) -> Response:
        return redirect("/sessions")

    return [
        Route("/.well-known/openid-configuration", discovery),
        Route("/jwks", jwks),
        Route("/", home),
    ]


def _metadata(issuer: str) -> dict[str, object]:
    """OpenID Connect Discovery 1.0, section 3."""
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/jwks",
        "end_session_endpoint": f"{issuer}/end-session",
        "scopes_supported": ["openid", "profile"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [ALGORITHM],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "authorization_response_iss_parameter_supported": True,
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
    }
