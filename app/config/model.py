"""The settings of the top level: type, default and meaning."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from app.config.account import AccountApp, Audience, Origin, Scope
from app.config.admin_oidc import AdminOidcSettings
from app.config.canary import CanarySettings
from app.config.issuers import ClientOptions, IssuerOptions, IssuerSettings
from app.config.secrets import Secret
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
    """All settings. Read them with `app.config.load.load`."""

    redis_url: RedisUrl
    """``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` or ``redis+cluster://``;
    ``embedded`` starts a server for local trials."""
    issuers: tuple[IssuerSettings, ...] = ()
    """The providers: tables ``[[issuers]]``. At least one, here or in ``tenants_dir``."""
    tenants_dir: Directory | None = None
    """A directory of files ``*.toml``, one for each tenant, with tables ``[[issuers]]`` and
    ``[[account_apps]]`` ([deploy.md](deploy.md#tenants)). Default: ``receiver.d`` next to the
    settings file, if it exists."""
    sessions_secret: Secret | None = None
    """The secret of the one ``[issuers.sessions]`` that has none of its own, so that it can come
    from the environment."""
    listen: Address = ("127.0.0.1", 8000)
    """The listener for providers."""
    admin_listen: Address = ("127.0.0.1", 9000)
    """The listener for operators: health, metrics, API and console. Never for providers or
    users."""
    public_url: PublicUrl | None = None
    """The URL at which providers reach ``listen``, through any proxy. Only ``check`` uses it."""
    data_dir: Directory = Path("data")
    """The directory of the journal and of the embedded server's data."""
    embedded_port: Annotated[Number, Field(ge=1, le=65535)] = 6390
    """The port of the embedded server."""
    admin_token: AdminToken | None = None
    """Opens ``/api`` and ``/console`` ([admin-api.md](admin-api.md)), which exist only with this or
    ``admin_oidc``. ``generate``: a new one is made and printed at each start."""
    admin_hosts: Annotated[tuple[HostName, ...], Listed] = ()
    """Host names of ``admin_listen``, besides loopback names and its own address."""
    account_listen: Address | None = None
    """The listener for users' own sessions, called by apps' backends and browsers
    ([account.md](account.md))."""
    account_apps: tuple[AccountApp, ...] = ()
    """The apps whose backends may use it: tables ``[[account_apps]]``."""
    account_audience: Audience | None = None
    """The audience of browsers' access tokens. Without it, none is accepted."""
    account_scope: Scope | None = None
    """The scope of browsers' access tokens. Set both or neither."""
    account_origins: Annotated[tuple[Origin, ...], Listed] = ()
    """The origins whose pages may send an access token (CORS)."""
    admin_oidc: AdminOidcSettings | None = None
    """Sign-in to the console with OpenID Connect: a table ``[admin_oidc]``
    ([console.md](console.md))."""
    confirm_within: Annotated[Seconds, Field(le=600)] = 10
    """How long the API waits for the logout token after it has ended a session at the provider."""
    event_retention: Annotated[Seconds, Field(ge=1)] = 7 * 86400
    """How long an app's stream keeps an event."""
    event_max_len: Annotated[Number, Field(ge=1)] = 1_000_000
    """How many events an app's stream keeps."""
    # Longer than a load balancer's 60 s: the side that closes first must be the one that sends
    # next, or a POST is lost on a connection that is being closed.
    keep_alive: Annotated[Seconds, Field(ge=1)] = 75
    """How long an idle connection stays open."""
    drain: Annotated[Seconds, Field(le=600)] = 5
    """How long a stopping receiver accepts new requests, so that requests already in transit are
    still served. It ends after 0.1 s without one, unless a load balancer polls ``/readyz``."""
    shutdown_grace: Annotated[Seconds, Field(ge=1)] = 10
    """How long a stopping receiver waits for requests in flight (each has 1.8 s in total) and for
    the journal to drain into Redis."""

    # -- what a 200 means
    durability: DurabilityLevel = MEMORY
    """What Redis must have done before a 200. ``memory``: the primary has executed the write;
    ``fsync``: it has also synced its append-only file; ``replicas:N``: N replicas have the write.
    When that takes too long, the journal takes the revocation."""
    journal: File | None = None
    """Where revocations wait that Redis cannot take now. ``off``: answer 503 instead. On disk:
    the directories ``journal.db.pending`` and ``journal.db.accepted`` (the copy for
    ``recovery_window``), and the file ``journal.db.lock``.
    Default: ``<data_dir>/journal.db``."""
    journal_max_bytes: Annotated[Bytes, Field(ge=1 << 16)] = 256 << 20
    """The size of the journal. When it is full, the answer is 503, with an alarm."""
    journal_alarm_age: Annotated[Seconds, Field(ge=1)] = 3600
    """An entry that has waited this long is an alarm. No entry is dropped for its age."""
    recovery_window: Annotated[Seconds, Field(ge=600)] = 86400
    """How far back revocations are written again to a Redis that came back empty or older."""
    recovery_max_bytes: Annotated[Bytes, Field(ge=1 << 20)] = 512 << 20
    """The size of the copy for that: a million revocations of about 500 bytes."""

    # -- overload
    max_connections: Annotated[Number, Field(ge=16, le=1_000_000)] = 4096
    """Open connections, of about 10 KiB each. Above it, the one with the longest idle time is
    closed."""
    max_in_flight: Annotated[Number, Field(ge=16, le=1_000_000)] = 2048
    """Tokens in progress. No issuer gets more than are still free for the others."""
    largest_head: Annotated[Bytes, Field(ge=8 << 10)] = 128 << 10
    """The size of a request's first line and headers. Real ones have less than 1 KiB."""
    head_timeout: Annotated[Seconds, Field(ge=1)] = 20
    """Time from the first byte of a request's head to the last, for very slow networks."""
    body_timeout: Annotated[Seconds, Field(ge=1)] = 5
    """Time from the end of the head to the end of the body: longer than any provider waits for its
    answer."""
    marker_quota: Annotated[Number, Field(ge=1)] = 1_000_000
    """New markers of each app per minute: about 160 MB in Redis."""
    parking_max_tokens: Annotated[Number, Field(ge=0)] = 5000
    """Tokens of one issuer that wait up to ten minutes for its keys."""
    parking_max_bytes: Annotated[Bytes, Field(ge=0)] = 4 << 20
    """The size of those tokens."""

    # -- log and traces
    log_format: Literal["auto", "json", "console"] = "auto"
    """``auto``: readable text in a terminal, otherwise JSON."""
    log_level: Literal["info", "warning", "error"] = "info"
    """``warning`` leaves out accepted logouts."""
    log_subjects: bool = False
    """Log ``sub`` and ``sid`` themselves, in place of keyed hashes."""
    hash_key: Annotated[SecretStr, Field(min_length=16)] | None = None
    """The key of the hashes of ``sub``, ``sid`` and ``jti``: 16 characters or more. Default: a key
    that the first receiver stores in Redis for all."""
    refused_max_len: Annotated[Number, Field(ge=100, le=10_000_000)] = 10_000
    """How many refusals are kept, for up to ``event_retention``; usually less than 1 KiB each."""
    metrics_max_apps: Annotated[Number, Field(ge=0, le=100_000)] = 100
    """Up to this many apps, and clients, have metrics of their own: the worst, and those that are
    counted first ([metrics.md](metrics.md#many-apps))."""
    metrics_apps: tuple[str, ...] = ()
    """Apps that always have metrics of their own."""
    trust_request_id: bool = False
    """Take ``X-Request-Id`` from the request. Only for a receiver behind a proxy that sets it."""
    otel: bool = False
    """Send OpenTelemetry traces, with the extra ``[otel]``; ``OTEL_*`` variables set where to."""

    canary: CanarySettings | None = None
    """A session of the receiver's own, ended on a schedule: a table ``[canary]``, which may be
    empty ([commands.md](commands.md#the-canary))."""

    @property
    def journal_path(self) -> Path | None:
        """The journal's file; None without a journal."""
        if self.journal is None:
            return self.data_dir / "journal.db"
        return None if self.journal == Path(OFF) else self.journal

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """The addresses of this process and its embedded server, by setting."""
        addresses = {"listen": self.listen, "admin_listen": self.admin_listen}
        if self.account_listen is not None:
            addresses["account_listen"] = self.account_listen
        if self.embedded:
            addresses["embedded_port"] = ("127.0.0.1", self.embedded_port)
        return addresses

    @property
    def signing_issuers(self) -> tuple[IssuerSettings, ...]:
        """The issuers that send logout tokens."""
        return tuple(issuer for issuer in self.issuers if issuer.signs)

    @property
    def has_console(self) -> bool:
        """Whether operators can sign in. Without it there is neither console nor API."""
        return self.admin_token is not None or self.admin_oidc is not None

    @property
    def embedded(self) -> bool:
        return self.redis_url.get_secret_value() == EMBEDDED
