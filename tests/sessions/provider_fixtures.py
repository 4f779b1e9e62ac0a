"""Adapters built from settings, each with a server that implements its provider's API."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from app.config.issuers import IssuerSettings
from app.sessions.providers.factory import session_provider
from app.sessions.session_provider import SessionProvider
from app.tokens.fetch import new_client
from tests.support.providers import auth0_api, keycloak_api
from tests.support.providers.auth0_api import Auth0Api
from tests.support.providers.keycloak_api import KeycloakApi
from tests.support.providers.kratos_api import KratosApi

Api = Auth0Api | KratosApi | KeycloakApi

# Users in each provider's form. The bar must be encoded, and arrive unchanged.
ALICE = {
    "auth0": "auth0|alice",
    "kratos": "aaaaaaaa-0000-4000-8000-000000000001",
    "keycloak": "aaaaaaaa-0000-4000-8000-000000000001",
}
BOB = {
    "auth0": "auth0|bob",
    "kratos": "bbbbbbbb-0000-4000-8000-000000000002",
    "keycloak": "bbbbbbbb-0000-4000-8000-000000000002",
}
NOBODY = "00000000-0000-4000-8000-000000000000"


@dataclass
class AdapterSetup:
    """A provider's API and the adapter for it."""

    kind: str
    api: Any
    adapter: SessionProvider

    @property
    def alice(self) -> str:
        return ALICE[self.kind]

    @property
    def bob(self) -> str:
        return BOB[self.kind]


def table_of(api: Api) -> dict[str, Any]:
    """``[issuers.sessions]`` for this server."""
    match api:
        case Auth0Api():
            own = {"client_id": auth0_api.CLIENT_ID, "secret": auth0_api.CLIENT_SECRET}
            return {"kind": "auth0", "api_url": api.origin, **own}
        case KratosApi():
            return {"kind": "kratos", "admin_url": api.origin, "public_url": api.origin}
        case KeycloakApi():
            own = {"client_id": keycloak_api.CLIENT_ID, "secret": keycloak_api.CLIENT_SECRET}
            return {"kind": "keycloak", **own}


def issuer_of(api: Api) -> IssuerSettings:
    """Settings of an issuer with this server."""
    name = api.issuer if isinstance(api, KeycloakApi) else "https://op.example/"
    return IssuerSettings.model_validate(
        {
            "issuer": name,
            "clients": [{"client_id": "shop-web", "app": "shop"}],
            "sessions": table_of(api),
        }
    )


def tls() -> ssl.SSLContext:
    """An empty context for plain http: loading the certificates takes longer than a test."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@contextlib.asynccontextmanager
async def adapter_setup(api: Api) -> AsyncIterator[AdapterSetup]:
    """The running server and its adapter."""
    async with new_client(tls()) as client:
        with api:
            issuer = issuer_of(api)
            adapter = session_provider(issuer, client)
            assert adapter is not None
            yield AdapterSetup(adapter.kind, api, adapter)
