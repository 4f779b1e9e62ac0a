"""The table ``[issuers.sessions]``: the session API of an issuer's provider.

A setting that the provider's kind does not use is a fault, since it would do nothing.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from app.config.base import Table
from app.config.secrets import Secret, SecretFile
from app.config.types import IssuerName, Seconds

# Kratos' default of ``session.lifespan``.
KRATOS_LIFESPAN = 86400.0

# One segment of a path, used without encoding.
_REALM = r"^[^/\\%\x00-\x1f\x7f]+$"

NAMES_OF_KIND: Mapping[str, frozenset[str]] = {
    "auth0": frozenset({"api_url", "token_url", "audience", "client_id"}),
    "keycloak": frozenset({"api_url", "token_url", "realm", "client_id"}),
    "kratos": frozenset({"admin_url", "public_url", "lifespan"}),
}
SHARED_NAMES = frozenset({"kind", "secret", "secret_file"})
URL_NAMES = ("api_url", "token_url", "admin_url", "public_url")

_Text = Annotated[str, Field(min_length=1, max_length=255)]


class SessionsSettings(Table):
    """How the sessions of one issuer are listed and ended. Defaults follow from the issuer."""

    kind: Literal["auth0", "keycloak", "kratos"]
    """The provider's product."""
    api_url: IssuerName | None = None
    """Auth0: the tenant's own domain, even behind a custom one. Keycloak: the URL without
    ``/admin``. Default: from ``issuer``."""
    token_url: IssuerName | None = None
    """The token endpoint. Default: from ``api_url``."""
    audience: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Auth0: the audience of the Management API. Default: ``<api_url>/api/v2/``."""
    realm: Annotated[str, Field(max_length=255, pattern=_REALM)] | None = None
    """Keycloak: the realm, where ``issuer`` does not end with ``/realms/NAME``."""
    client_id: _Text | None = None
    """Auth0, Keycloak: the machine client which may list and end sessions, none of the apps'
    clients."""
    secret: Secret | None = None
    """The secret of that client. Kratos: a bearer token, where a proxy in front of it needs
    one."""
    secret_file: SecretFile | None = None
    """A file with the secret, read at the start."""
    admin_url: IssuerName | None = None
    """Kratos: the admin API. Only services like this one should reach it."""
    public_url: IssuerName | None = None
    """Kratos: the public API. Lets users call ``account_listen`` with their own Kratos session."""
    lifespan: Annotated[Seconds, Field(ge=1)] = KRATOS_LIFESPAN
    """Kratos: its ``session.lifespan``, which no API returns."""

    @property
    def sets_secret(self) -> bool:
        return not self.model_fields_set.isdisjoint(("secret", "secret_file"))

    @property
    def effective_secret(self) -> SecretStr | None:
        return self.secret or self.secret_file


def required_names(kind: str, issuer: str) -> frozenset[str]:
    """The settings of a kind that have no default. Most Keycloak issuers name host and realm."""
    if kind == "keycloak":
        named = realm_in(issuer) is not None
        return frozenset({"client_id"} if named else {"client_id", "api_url", "realm"})
    return frozenset({"client_id"} if kind == "auth0" else {"admin_url"})


def realm_in(issuer: str) -> tuple[str, str] | None:
    """The URL before ``/realms/NAME`` of a Keycloak issuer, and the name."""
    base, separator, realm = issuer.rpartition("/realms/")
    if not separator or not re.match(_REALM, realm) or not urlsplit(base).hostname:
        return None
    return base, realm


def add_client_ids_of_kratos(raw: Mapping[str, Any]) -> None:
    """Use the app's name as client id where the provider is Kratos, which has no clients."""
    issuers = raw.get("issuers")
    for issuer in issuers if isinstance(issuers, list) else []:
        match issuer:
            case {"sessions": {"kind": "kratos"}, "clients": [*clients]}:
                for client in clients:
                    if isinstance(client, dict) and "app" in client:
                        client.setdefault("client_id", client["app"])
