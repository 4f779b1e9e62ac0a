"""A provider and its clients, and the options that may also be set for all of them."""

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from app.config.base import Table
from app.config.presets import PresetName
from app.config.secrets import ClientSecret, ClientSecretFile, DecryptionKey, KeyFiles
from app.config.session_api import SessionsSettings
from app.config.types import (
    Algorithm,
    AppName,
    ClientAlgorithm,
    IssuerName,
    KeysUri,
    Listed,
    Seconds,
)


class ClientOptions(Table):
    """Options of a client, or of the top level for every client."""

    # Mobile apps keep their users signed in for weeks, browsers for less.
    max_session_age: Annotated[Seconds, Field(ge=1)] = 30 * 86400
    """The app's absolute session limit: how long a session can live after its login. A marker
    lives an hour longer."""
    both_claims: Literal["session", "user"] = "session"
    """What a token with ``sid`` and ``sub`` ends: that session, or with ``user`` all of the user's
    sessions. Set ``user`` if the provider's ID tokens have no ``sid``."""


class ClientSettings(ClientOptions):
    """An OAuth client of the issuer, and its relying app."""

    client_id: Annotated[str, Field(min_length=1, max_length=255)]
    """The client id, as it appears in ``aud``."""
    app: AppName = ""
    """The relying app's name in Redis. Required if the client id is no app name, or if clients of
    several issuers belong to the app. Default: the client id."""
    algorithms: Annotated[tuple[ClientAlgorithm, ...], Listed, Field(min_length=1)] | None = None
    """The algorithms of this client's tokens. ``["HS256"]`` needs a client secret
    ([encryption.md](encryption.md)). Default: the issuer's."""
    client_secret: ClientSecret | None = None
    """The secret of a client with ``HS256``: 32 bytes or more."""
    client_secret_file: ClientSecretFile | None = None
    """A file with that secret, read at the start."""

    @cached_property
    def secret(self) -> bytes | None:
        """Verifies this client's tokens with HS256, in place of the issuer's keys."""
        secret = self.client_secret or self.client_secret_file
        return None if secret is None else secret.get_secret_value().encode()


class IssuerOptions(Table):
    """Options of an issuer, or of the top level for every issuer."""

    algorithms: Annotated[tuple[Algorithm, ...], Listed, Field(min_length=1)] = ("RS256",)
    """The accepted signature algorithms: RS256 to RS512, PS256 to PS512, ES256 to ES512, EdDSA and
    Ed25519. Default: the preset's, else `RS256`."""
    allow_http: bool = False
    """Fetch keys over plain http even if the host is not loopback."""
    strict: bool = False
    """Require ``typ: logout+jwt`` and ``exp`` (OWASP ASVS 5.0, 10.5.5)."""
    require_exp: bool = False
    """Require ``exp``."""
    leeway: Annotated[Seconds, Field(le=600)] = 60
    """How far the clocks may differ."""
    max_token_age: Annotated[Seconds, Field(ge=1, le=86400)] = 300
    """How long after its ``iat`` a token is accepted, regardless of its ``exp``."""
    jwks_refresh: Annotated[Seconds, Field(ge=1)] = 600
    """How often the keys are fetched."""
    jwks_max_stale: Annotated[Seconds, Field(ge=1)] = 86400
    """How long the last good keys are used while the provider is down."""
    decryption_keys: KeyFiles | None = None
    """Files with private keys for encrypted tokens: PEM or JSON Web Keys. Read at the
    start ([encryption.md](encryption.md))."""
    encryption: Literal["optional", "required"] = "optional"
    """``required``: refuse tokens that are not encrypted."""


class IssuerSettings(IssuerOptions):
    """An identity provider."""

    issuer: IssuerName
    """The provider's name, compared byte by byte with ``iss``, as RFC 9207 and OpenID require."""
    preset: PresetName | None = None
    """The provider's product, from [providers.md](providers.md). It sets ``algorithms`` where the
    settings do not, and lets ``check`` report more."""
    aliases: Annotated[tuple[IssuerName, ...], Listed] = ()
    """Other names under which the same provider signs (Zitadel has one for each of its hosts)."""
    jwks_uri: KeysUri | None = None
    """The URL of the keys. Default: from discovery."""
    clients: Annotated[tuple[ClientSettings, ...], Field(min_length=1)]
    """The clients: tables ``[[issuers.clients]]``."""
    sessions: SessionsSettings | None = None
    """The provider's session API: a table ``[issuers.sessions]``. Without it, the sessions of this
    issuer cannot be listed or ended ([sessions.md](sessions.md))."""

    # Compared by identity, so that an issuer is a cheap key of a cache.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def equals(self, other: "IssuerSettings") -> bool:
        """Whether every setting is the same."""
        return all(self.get(name) == other.get(name) for name in type(self).model_fields)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (self.issuer, *self.aliases)

    @property
    def signs(self) -> bool:
        """Whether it sends logout tokens. Kratos does not, so it has no keys to fetch."""
        return self.sessions is None or self.sessions.kind != "kratos"

    @cached_property
    def keys_to_decrypt(self) -> tuple[DecryptionKey, ...]:
        return tuple(key for keys in self.decryption_keys or () for key in keys)

    @cached_property
    def client_ids(self) -> tuple[str, ...]:
        return tuple(client.client_id for client in self.clients)

    @cached_property
    def clients_differ(self) -> bool:
        """Whether a client has algorithms of its own."""
        return any(client.algorithms is not None for client in self.clients)
