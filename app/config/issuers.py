"""An issuer and its clients, and what may stand there or, for all of them, at the top level."""

from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.config.cross_checks import DEFAULT_MAX_SESSION_AGE
from app.config.presets import PresetName
from app.config.secrets import ClientSecret, DecryptionKey, KeyFiles, SecretFile
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


class Model(BaseModel):
    """What is said is all that there is, and stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ClientOptions(Model):
    """What may stand at a client, or at the top level for every client."""

    max_session_age: Annotated[Seconds, Field(ge=1)] = DEFAULT_MAX_SESSION_AGE
    """The longest an app session can live after its login; also the life of a marker."""
    both_claims: Literal["session", "user"] = "session"
    """Whom a token with ``sid`` and ``sub`` ends; ``user`` for ID tokens that carry no sid."""


class ClientSettings(ClientOptions):
    """An OAuth client of the issuer, and the relying app that it belongs to."""

    client_id: Annotated[str, Field(min_length=1, max_length=255)]
    app: AppName = ""  # filled from client_id by load()
    algorithms: Annotated[tuple[ClientAlgorithm, ...], Listed, Field(min_length=1)] | None = None
    """Of this client's tokens, in place of the issuer's."""
    client_secret: ClientSecret | None = None
    client_secret_file: SecretFile | None = None
    """The secret itself, once the settings are read."""

    @cached_property
    def secret(self) -> bytes | None:
        """Signs this client's tokens with HS256, in place of the issuer's keys."""
        secret = self.client_secret or self.client_secret_file
        return None if secret is None else secret.get_secret_value().encode()


class IssuerOptions(Model):
    """What may stand at an issuer, or at the top level for every issuer."""

    algorithms: Annotated[tuple[Algorithm, ...], Listed, Field(min_length=1)] = ("RS256",)
    allow_http: bool = False
    """Fetch this issuer's keys over plain http although it is not a loopback host."""
    strict: bool = False
    """Demand ``typ: logout+jwt`` and ``exp`` (OWASP ASVS 5.0, 10.5.5)."""
    require_exp: bool = False
    leeway: Annotated[Seconds, Field(le=600)] = 60
    """How far the clocks may differ."""
    max_token_age: Annotated[Seconds, Field(ge=1, le=86400)] = 300
    """How long after its ``iat`` a token is taken, whatever its ``exp`` says."""
    jwks_refresh: Annotated[Seconds, Field(ge=1)] = 600
    jwks_max_stale: Annotated[Seconds, Field(ge=1)] = 86400
    """How long the last good keys serve while the provider is down."""
    decryption_keys: KeyFiles | None = None
    """Private keys for encrypted tokens. Files, and once the settings are read what is in them."""
    encryption: Literal["optional", "required"] = "optional"


class IssuerSettings(IssuerOptions):
    """An identity provider. ``issuer`` is compared byte by byte, as RFC 9207 and OpenID ask."""

    issuer: IssuerName
    preset: PresetName | None = None
    """The provider's name in `app.config.presets`: defaults for it, and what `check` says of it."""
    aliases: Annotated[tuple[IssuerName, ...], Listed] = ()
    """Other names under which the same provider signs (Zitadel: one for each of its hosts)."""
    jwks_uri: KeysUri | None = None
    """Where the keys are; found by discovery when it is not said."""
    clients: Annotated[tuple[ClientSettings, ...], Field(min_length=1)]
    sessions: SessionsSettings | None = None
    """Its session API; without it, nobody can list or end its sessions here."""

    # By identity, so that an issuer is a cheap key of a cache.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (self.issuer, *self.aliases)

    @property
    def signs(self) -> bool:
        """Whether it sends logout tokens. Kratos does not: there are no keys to fetch."""
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
