"""Every setting of the top level: its type, its default, its meaning."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from app.config.account import AccountApp, Audience, Origin, Scope
from app.config.admin_oidc import AdminOidcSettings
from app.config.canary import CanarySettings
from app.config.issuers import ClientOptions, IssuerOptions, IssuerSettings
from app.config.session_api import Secret
from app.config.types import (
    EMBEDDED,
    MEMORY,
    OFF,
    Address,
    AdminToken,
    Bytes,
    Directory,
    DurabilityLevel,
    File,
    HostName,
    Listed,
    Number,
    PublicUrl,
    RedisUrl,
    Seconds,
)


class Settings(IssuerOptions, ClientOptions):
    """Everything. Build it with `app.config.load.load`."""

    redis_url: RedisUrl
    issuers: Annotated[tuple[IssuerSettings, ...], Field(min_length=1)]
    sessions_secret: Secret | None = None
    """The secret of the one ``[issuers.sessions]``, so that it can come from the environment."""
    listen: Address = ("127.0.0.1", 8000)
    admin_listen: Address = ("127.0.0.1", 9000)
    public_url: PublicUrl | None = None
    """Where providers reach ``listen``, through whatever stands in front; for `check` alone."""
    data_dir: Directory = Path("data")
    """Where the journal and the embedded server keep their data."""
    embedded_port: Annotated[Number, Field(ge=1, le=65535)] = 6390
    admin_token: AdminToken | None = None
    """Opens `/api` and `/console`, which are not there without a way in; ``generate``: made
    at each start, and printed."""
    admin_hosts: Annotated[tuple[HostName, ...], Listed] = ()
    """Names by which operators reach it, beside those of loopback and its own address."""
    account_listen: Address | None = None
    """For users' own sessions: for the apps' backends, or browsers; not there without it."""
    account_apps: tuple[AccountApp, ...] = ()
    account_audience: Audience | None = None
    """Of the access tokens by which browsers may ask; none may without it."""
    account_scope: Scope | None = None
    account_origins: Annotated[tuple[Origin, ...], Listed] = ()
    """Whose pages may ask with an access token (CORS)."""
    admin_oidc: AdminOidcSettings | None = None
    """Sign-in to the console with OpenID Connect."""
    confirm_within: Annotated[Seconds, Field(le=600)] = 10
    """How long after the end of a provider's session its logout token is waited for."""
    event_retention: Annotated[Seconds, Field(ge=1)] = 7 * 86400
    event_max_len: Annotated[Number, Field(ge=1)] = 1_000_000
    keep_alive: Annotated[Seconds, Field(ge=1)] = 75
    """How long an idle connection stays open. Longer than a load balancer's 60 s: the side
    that closes first must be the one that sends next, or an honest POST dies on the way."""
    drain: Annotated[Seconds, Field(le=600)] = 5
    """How long a stop still takes new requests, so that who is on the way meets nobody's back.
    It ends sooner when nothing comes any more and no load balancer asks `/readyz` regularly."""
    shutdown_grace: Annotated[Seconds, Field(ge=1)] = 10
    """How long a stop waits for requests in flight (each has 1.8 s in all), and for the journal
    to drain into Redis."""

    # -- what a 200 means
    durability: DurabilityLevel = MEMORY
    """What Redis must have done before it counts: ``memory``, ``fsync``, ``replicas:N``."""
    journal: File | None = None
    """Where revocations wait while Redis can not take them; ``off`` for none."""
    journal_max_bytes: Annotated[Bytes, Field(ge=1 << 16)] = 256 << 20
    """A full journal takes nothing more: the answer is 503, and the log says it."""
    journal_alarm_age: Annotated[Seconds, Field(ge=1)] = 3600
    """Entries that wait for longer are an alarm. None is ever dropped for its age alone."""
    recovery_window: Annotated[Seconds, Field(ge=600)] = 86400
    """How far back revocations are written again into a Redis that came back empty or older."""
    recovery_max_bytes: Annotated[Bytes, Field(ge=1 << 20)] = 512 << 20
    """What is kept for that at most: a million revocations, some 500 bytes each."""

    # -- overload
    max_connections: Annotated[Number, Field(ge=16, le=1_000_000)] = 4096
    """Above it the connection that is idle for longest is closed; about 10 KiB each."""
    max_in_flight: Annotated[Number, Field(ge=16, le=1_000_000)] = 2048
    """Tokens at work at once. No issuer gets more than what is still free for the others."""
    largest_head: Annotated[Bytes, Field(ge=8 << 10)] = 128 << 10
    """Of a request's first line and headers. Real ones have less than 1 KiB."""
    head_timeout: Annotated[Seconds, Field(ge=1)] = 20
    """From a head's first byte to its last: for networks that are nearly down."""
    body_timeout: Annotated[Seconds, Field(ge=1)] = 5
    """From the head's end to the body's: longer than any provider waits for its answer."""
    marker_quota: Annotated[Number, Field(ge=1)] = 1_000_000
    """New markers for each app and minute: some 160 MB in Redis."""
    parking_max_tokens: Annotated[Number, Field(ge=0)] = 5000
    """Tokens of one issuer that wait for its keys, ten minutes at most."""
    parking_max_bytes: Annotated[Bytes, Field(ge=0)] = 4 << 20

    # -- what is told
    log_format: Literal["auto", "json", "console"] = "auto"
    """``auto``: for people in a terminal, else JSON."""
    log_level: Literal["info", "warning", "error"] = "info"
    """``warning`` leaves out the lines of logouts that were accepted."""
    log_subjects: bool = False
    """Log ``sub`` and ``sid`` themselves, in place of keyed hashes."""
    hash_key: Annotated[SecretStr, Field(min_length=16)] | None = None
    """For the keyed hashes of ``sub``, ``sid`` and ``jti``; made and kept in Redis if it is not
    said."""
    refused_max_len: Annotated[Number, Field(ge=100, le=10_000_000)] = 10_000
    """Refusals that are kept, for ``event_retention`` at most; 1 KiB each or less, as a rule."""
    trust_request_id: bool = False
    """Take over ``X-Request-Id``: only behind a proxy that sets it itself."""
    otel: bool = False
    """Traces to OpenTelemetry; where to, its own ``OTEL_*`` variables say."""

    canary: CanarySettings | None = None
    """A session of our own, ended on a schedule; off where it is not said."""

    @property
    def journal_path(self) -> Path | None:
        """The journal's file; None when there is none."""
        if self.journal is None:
            return self.data_dir / "journal.db"
        return None if self.journal == Path(OFF) else self.journal

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """What this process and its embedded server listen on, by the names of the settings."""
        found = {"listen": self.listen, "admin_listen": self.admin_listen}
        if self.account_listen is not None:
            found["account_listen"] = self.account_listen
        if self.embedded:
            found["embedded_port"] = ("127.0.0.1", self.embedded_port)
        return found

    @property
    def signing_issuers(self) -> tuple[IssuerSettings, ...]:
        """Those that send logout tokens."""
        return tuple(issuer for issuer in self.issuers if issuer.signs)

    @property
    def has_console(self) -> bool:
        """Whether operators can sign in; without it there is neither console nor API."""
        return self.admin_token is not None or self.admin_oidc is not None

    @property
    def embedded(self) -> bool:
        return self.redis_url.get_secret_value() == EMBEDDED
