"""Builds the adapter of a configured issuer. Missing settings follow from the issuer's name."""

import httpx

from app.config.issuers import IssuerSettings
from app.config.session_api import SessionsSettings, realm_in
from app.sessions.api_client.calls import Authorization, Calls, StaticAccess
from app.sessions.api_client.client_credentials import ClientCredentials
from app.sessions.api_client.rate_limit_gate import RateLimitGate
from app.sessions.providers.auth0 import Auth0
from app.sessions.providers.keycloak import Keycloak
from app.sessions.providers.kratos import Kratos
from app.sessions.providers.kratos_whoami import KratosWhoami
from app.sessions.session_provider import SessionProvider


def session_provider(issuer: IssuerSettings, client: httpx.AsyncClient) -> SessionProvider | None:
    """The issuer's adapter; None without ``[issuers.sessions]``.

    ``client`` comes from `fetch.new_client` and can be shared.
    """
    sessions = issuer.sessions
    if sessions is None:
        return None
    match sessions.kind:
        case "auth0":
            base = (sessions.api_url or issuer.issuer).rstrip("/")
            audience = sessions.audience or f"{base}/api/v2/"
            calls = _calls_with_token(issuer, sessions, client, base, "/oauth/token", audience)
            return Auth0(issuer.issuer, calls)
        case "keycloak":
            own_base, own_realm = realm_in(issuer.issuer) or ("", "")
            base, realm = sessions.api_url or own_base, sessions.realm or own_realm
            # At the API's address: the issuer's name may lead through a proxy for users.
            path = f"/realms/{realm}/protocol/openid-connect/token"
            calls = _calls_with_token(issuer, sessions, client, base, path, None)
            return Keycloak(issuer.issuer, realm, calls)
        case "kratos":
            access = StaticAccess(sessions.effective_secret)
            calls = _calls(issuer, client, sessions.admin_url or "", access, RateLimitGate())
            return Kratos(issuer.issuer, calls, lifespan=sessions.lifespan)


def kratos_whoami(issuer: IssuerSettings, client: httpx.AsyncClient) -> KratosWhoami | None:
    """Identifies the issuer's users by their own credential; None without ``public_url``."""
    if issuer.sessions is None or issuer.sessions.public_url is None:
        return None
    public_url = issuer.sessions.public_url
    return KratosWhoami(issuer.issuer, client, public_url, allow_http=issuer.allow_http)


def _calls_with_token(
    issuer: IssuerSettings,
    sessions: SessionsSettings,
    client: httpx.AsyncClient,
    base: str,
    token_path: str,
    audience: str | None,
) -> Calls:
    if sessions.client_id is None or sessions.effective_secret is None:
        raise ValueError("settings that were not loaded: no client_id or secret for sessions")
    gate = RateLimitGate()
    access = ClientCredentials(
        client,
        sessions.token_url or base.rstrip("/") + token_path,
        sessions.client_id,
        sessions.effective_secret,
        audience=audience,
        allow_http=issuer.allow_http,
        gate=gate,
    )
    return _calls(issuer, client, base, access, gate)


def _calls(
    issuer: IssuerSettings,
    client: httpx.AsyncClient,
    base: str,
    access: Authorization,
    gate: RateLimitGate,
) -> Calls:
    return Calls(client, base.rstrip("/"), access, allow_http=issuer.allow_http, gate=gate)
