"""`/oauth/token`, like Auth0's for machines: client credentials for the session API.

There is one machine client, `MACHINE`. Its secret is the API's bearer token in the settings, which
also works directly.
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
            parameters = once_each(form) or {}
        if parameters.get("grant_type") != "client_credentials":
            return _refused("unsupported_grant_type", 400)
        correct = secrets.compare_digest(parameters.get("client_secret", "").encode(), self._secret)
        if parameters.get("client_id") != MACHINE or not correct:
            return _refused("access_denied", 401)
        # The host may differ from the issuer's: containers use another name.
        if not parameters.get("audience", "").endswith("/api/v2/"):
            return _refused("access_denied", 403)
        now = self._clock()
        self._tokens = {token: end for token, end in self._tokens.items() if end > now}
        token = secrets.token_urlsafe(32)
        self._tokens[token] = now + TOKEN_SECONDS
        granted = {"access_token": token, "token_type": "Bearer"}
        return JSONResponse(
            granted | {"expires_in": TOKEN_SECONDS, "scope": SCOPES}, headers=NO_STORE
        )

    def allow(self, authorization: str) -> bool:
        """Whether this header gives access to the session API."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        is_valid = self._tokens.get(token, 0) > self._clock()
        return is_valid or secrets.compare_digest(token.encode(), self._secret)


def _refused(error: str, status: int) -> Response:
    return JSONResponse({"error": error}, status_code=status, headers=NO_STORE)
