"""`/token`: exchanges a code for an ID token (OpenID Connect Core 1.0, section 3.1.3)."""

import base64
import binascii
import secrets
from typing import Any
from urllib.parse import unquote_plus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import config
from .codes import Grant
from .config import Client, Config
from .sessions import Session
from .state import Provider
from .tokens import ID_TOKEN_SECONDS
from .web import NO_STORE, once_each

_HEADERS = {**NO_STORE, "Pragma": "no-cache"}


class TokenEndpoint:
    """For clients, which authenticate with client_secret_basic or client_secret_post."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def routes(self) -> list[Route]:
        return [Route("/token", self.answer, methods=["POST"])]

    async def answer(self, request: Request) -> Response:
        async with request.form() as form:
            parameters = once_each(form)
        if parameters is None:
            return _refused("invalid_request")
        client = _authenticated(
            self._provider.config, request.headers.get("authorization"), parameters
        )
        if client is None:
            return _refused("invalid_client", 401)
        if parameters.get("grant_type") != "authorization_code":
            return _refused("unsupported_grant_type")
        grant = self._provider.codes.redeem(
            parameters.get("code", ""),
            client_id=client.client_id,
            redirect_uri=parameters.get("redirect_uri", ""),
            code_verifier=parameters.get("code_verifier", ""),
        )
        if grant is None:
            return _refused("invalid_grant")
        # The session may have ended since the code was issued. A token after the logout would open
        # an app session that no logout ends.
        session = self._provider.sessions.used_for(grant.session_id, client.client_id)
        if session is None:
            return _refused("invalid_grant")
        return JSONResponse(
            {
                # OAuth requires one; no endpoint here accepts it.
                "access_token": secrets.token_urlsafe(32),
                "token_type": "Bearer",
                "expires_in": ID_TOKEN_SECONDS,
                "scope": " ".join(sorted(grant.scopes)),
                "id_token": self._provider.signer.id_token(_claims(grant, session)),
            },
            headers=_HEADERS,
        )


def _claims(grant: Grant, session: Session) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "sub": session.user_id,
        "aud": grant.client_id,
        "sid": session.id,
        "auth_time": int(session.created_at),
    }
    if grant.nonce is not None:
        claims["nonce"] = grant.nonce
    user = config.user(session.user_id)
    if user is not None and "profile" in grant.scopes:
        claims["name"] = user.name
    return claims


def _authenticated(
    settings: Config, authorization: str | None, parameters: dict[str, str]
) -> Client | None:
    """The client, if its secret is correct and sent in one place (RFC 6749, section 2.3)."""
    if authorization is None:
        client_id, secret = parameters.get("client_id", ""), parameters.get("client_secret", "")
    elif "client_secret" in parameters:
        return None
    else:
        client_id, secret = _basic(authorization)
        if parameters.get("client_id", client_id) != client_id:
            return None
    client = settings.client(client_id)
    if client is None:
        return None
    correct = secrets.compare_digest(client.client_secret.encode(), secret.encode())
    return client if correct else None


def _basic(authorization: str) -> tuple[str, str]:
    """Name and secret; both are form-encoded before they are joined (section 2.3.1)."""
    scheme, _, credentials = authorization.partition(" ")
    try:
        text = base64.b64decode(credentials, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return "", ""
    if scheme.lower() != "basic":
        return "", ""
    client_id, _, secret = text.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)


def _refused(error: str, status: int = 400) -> Response:
    challenge = {"WWW-Authenticate": 'Basic realm="token"'} if status == 401 else {}
    return JSONResponse({"error": error}, status_code=status, headers={**_HEADERS, **challenge})
