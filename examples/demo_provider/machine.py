"""`/oauth/token`, as Auth0 has it for machines: client credentials for the session API.

There is one machine client, `MACHINE`. Its secret is the API's bearer token of the settings, which
opens the API directly, too.
"""

import secrets
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .state import Provider
from .web import NO_STORE, once_each

MACHINE = "session-api"

# Auth0's default for the Management API.
TOKEN_SECONDS = 86400

SCOPES = "read:sessions delete:sessions delete:refresh_tokens read:tenant_settings"


class MachineTokens:
    """Access tokens for the session API, in memory; ``clock`` gives epoch seconds."""

    def __init__(self, provider: Provider) -> None:
        self._secret = provider.config.api_token.encode()
        self._clock: Callable[[], float] = provider.clock
        self._tokens: dict[str, float] = {}

    @property
    def routes(self) -> list[Route]:
        return [Route("/oauth/token", self.answer, methods=["POST"])]

    async def answer(self, request: Request) -> Response:
        async with request.form() as form:
            given = once_each(form) or {}
        if given.get("grant_type") != "client_credentials":
            return _refused("unsupported_grant_type", 400)
        right = secrets.compare_digest(given.get("client_secret", "").encode(), self._secret)
        if given.get("client_id") != MACHINE or not right:
            return _refused("access_denied", 401)
        # The host may be another than the issuer's: containers know it by another name.
        if not given.get("audience", "").endswith("/api/v2/"):
            return _refused("access_denied", 403)
        now = self._clock()
        self._tokens = {token: end for token, end in self._tokens.items() if end > now}
        token = secrets.token_urlsafe(32)
        self._tokens[token] = now + TOKEN_SECONDS
        granted = {"access_token": token, "token_type": "Bearer"}
        return JSONResponse(
            granted | {"expires_in": TOKEN_SECONDS, "scope": SCOPES}, headers=NO_STORE
        )

    def are_good(self, authorization: str) -> bool:
        """Whether this header opens the session API."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        good = self._tokens.get(token, 0) > self._clock()
        return good or secrets.compare_digest(token.encode(), self._secret)


def _refused(error: str, status: int) -> Response:
    return JSONResponse({"error": error}, status_code=status, headers=NO_STORE)
