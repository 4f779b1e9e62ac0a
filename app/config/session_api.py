"""The table ``[issuers.sessions]``: the session API of an issuer, and what must hold in it.

What a kind does not use may not stand there: a setting that does nothing misleads.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from app.config.types import IssuerName, Seconds, may_fetch

Loc = tuple[int | str, ...]
Fault = tuple[Loc, str]

# Kratos' ``session.lifespan`` unless it is configured otherwise.
KRATOS_LIFESPAN = 86400.0

_LONGEST_SECRET = 16384

# It becomes one segment of a path, as it is.
_REALM = r"^[^/\\%\x00-\x1f\x7f]+$"

_OF_KIND: dict[str, frozenset[str]] = {
    "auth0": frozenset({"api_url", "token_url", "audience", "client_id"}),
    "keycloak": frozenset({"api_url", "token_url", "realm", "client_id"}),
    "kratos": frozenset({"admin_url", "public_url", "lifespan"}),
}
_OF_EVERY_KIND = frozenset({"kind", "secret", "secret_file"})
_URLS = ("api_url", "token_url", "admin_url", "public_url")


def _secret_in_file(value: object) -> object:
    """What the file holds, without the line's end. Nothing of it is in a fault."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must name a file")
    try:
        text = Path(value).read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"the file can not be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ValueError("the file holds no text") from None
    if not 1 <= len(text) <= _LONGEST_SECRET:
        raise ValueError(f"the file holds nothing, or more than {_LONGEST_SECRET} characters")
    return text


Secret = Annotated[SecretStr, Field(min_length=1, max_length=_LONGEST_SECRET)]
SecretFile = Annotated[SecretStr, BeforeValidator(_secret_in_file)]
Text = Annotated[str, Field(min_length=1, max_length=255)]


class SessionsSettings(BaseModel):
    """How the sessions of one issuer are listed and ended. Defaults follow from the issuer."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: Literal["auth0", "keycloak", "kratos"]
    api_url: IssuerName | None = None
    """Auth0: the tenant's own domain, also behind a custom one. Keycloak: without ``/admin``."""
    token_url: IssuerName | None = None
    audience: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Auth0: of the Management API."""
    realm: Annotated[str, Field(max_length=255, pattern=_REALM)] | None = None
    """Keycloak: where the issuer's name does not end with ``/realms/NAME``."""
    client_id: Text | None = None
    """The machine client that may list and end sessions; none of the apps' clients."""
    secret: Secret | None = None
    """Of that client; for Kratos a bearer token, where something in front of it asks for one."""
    secret_file: SecretFile | None = None
    """Names the file that the secret is read from, at the start; holds the secret afterwards."""
    admin_url: IssuerName | None = None
    """Kratos: the admin API, which only this service and its like should reach."""
    public_url: IssuerName | None = None
    """Kratos: the public API. Lets users call ``account_listen`` with their own Kratos session."""
    lifespan: Annotated[Seconds, Field(ge=1)] = KRATOS_LIFESPAN
    """Kratos: its ``session.lifespan``, which no API tells."""

    @property
    def the_secret(self) -> SecretStr | None:
        return self.secret or self.secret_file


def with_clients_of_kratos(raw: Mapping[str, Any]) -> None:
    """Give a Kratos issuer's clients their app's name as client id: Kratos has no clients."""
    for _, issuer, sessions in _tables(raw):
        clients = issuer.get("clients")
        if sessions.get("kind") != "kratos" or not isinstance(clients, list):
            continue
        for client in clients:
            if isinstance(client, dict) and "app" in client:
                client.setdefault("client_id", client["app"])


def session_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    """Each fault that needs more than one setting to be seen; on the raw values."""
    without_secret = [one for one in _tables(raw) if not _SECRETS & one[2].keys()]
    needing = [one for one in without_secret if one[2].get("kind") in ("auth0", "keycloak")]
    if "sessions_secret" in raw:
        # The secret of one provider must never be sent to another.
        if len(without_secret) != 1:
            yield ("sessions_secret",), "is for exactly one [issuers.sessions] without a secret"
    else:
        for i, _, _ in needing:
            loc: Loc = ("issuers", i, "sessions", "secret")
            yield loc, "is required (or secret_file, or BCL_SESSIONS_SECRET)"
    yield from _public_url_faults(raw)
    for i, issuer, sessions in _tables(raw):
        for name, sentence in _faults_of(issuer, sessions, _may_http(raw, issuer)):
            yield ("issuers", i, *name), sentence


def _public_url_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    """A user's credential must reach one Kratos only, and a setting must not be without effect."""
    issuers = [i for i, _, sessions in _tables(raw) if "public_url" in sessions]
    for number, i in enumerate(issuers):
        loc: Loc = ("issuers", i, "sessions", "public_url")
        if not raw.get("account_listen"):
            yield loc, "does nothing without account_listen"
        elif number > 0:
            yield loc, "is set for another issuer, and only one Kratos can identify users"


_SECRETS = frozenset({"secret", "secret_file"})


def _faults_of(
    issuer: Mapping[str, Any], sessions: Mapping[str, Any], allow_http: bool
) -> Iterator[Fault]:
    kind, known = sessions.get("kind"), SessionsSettings.model_fields.keys()
    for name in sorted(sessions.keys() & known - _OF_EVERY_KIND):
        if isinstance(kind, str) and kind in _OF_KIND and name not in _OF_KIND[kind]:
            yield ("sessions", name), f"is not for kind {kind}"
    for name in _URLS:
        url = sessions.get(name)
        if isinstance(url, str) and not may_fetch(url, allow_http=allow_http):
            yield (
                ("sessions", name),
                "must be https (or a loopback host, or allow_http = true on the issuer)",
            )
    if sessions.keys() >= _SECRETS:
        yield ("sessions", "secret_file"), "stands beside secret; say one of them"
    for name in sorted(_required(kind, issuer) - sessions.keys()):
        yield ("sessions", name), "is required"
    if kind == "kratos" and "jwks_uri" in issuer:
        yield ("jwks_uri",), "is not for Kratos: it signs nothing"


def _required(kind: object, issuer: Mapping[str, Any]) -> frozenset[str]:
    """What has no default here. Of Keycloak's issuers, most name host and realm."""
    name = issuer.get("issuer")
    named = isinstance(name, str) and realm_in(name.strip()) is not None
    keycloak = {"client_id"} if named else {"client_id", "api_url", "realm"}
    required = {"auth0": {"client_id"}, "keycloak": keycloak, "kratos": {"admin_url"}}
    return frozenset(required.get(kind, ()) if isinstance(kind, str) else ())


def realm_in(issuer: str) -> tuple[str, str] | None:
    """Of a Keycloak issuer: the URL before ``/realms/NAME``, and the name."""
    base, found, realm = issuer.rpartition("/realms/")
    if not found or not re.match(_REALM, realm) or not urlsplit(base).hostname:
        return None
    return base, realm


def _tables(
    raw: Mapping[str, Any],
) -> Iterator[tuple[int, dict[str, Any], Mapping[str, Any]]]:
    issuers = raw.get("issuers")
    for i, issuer in enumerate(issuers if isinstance(issuers, list) else []):
        if isinstance(issuer, dict) and isinstance(issuer.get("sessions"), dict):
            yield i, issuer, issuer["sessions"]


def _may_http(raw: Mapping[str, Any], issuer: Mapping[str, Any]) -> bool:
    value = issuer.get("allow_http", raw.get("allow_http"))
    return value is True or str(value).lower() in ("true", "t", "1", "yes", "y", "on")
