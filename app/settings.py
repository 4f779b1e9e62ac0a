"""What an operator may say: a TOML file and ``BCL_*`` variables; environment wins.

`load` reports every fault at once, each with the name of its setting and never with a value:
a value may be a secret. `settings_values` has the types, `settings_rules` what must hold across
settings.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from .presets import PresetName, presets
from .settings_account import AccountApp, Audience, Origin, Scope, account_faults
from .settings_admin import AdminOidcSettings, admin_faults
from .settings_canary import CanarySettings, canary_faults
from .settings_rules import DEFAULT_MAX_SESSION_AGE, faults_across
from .settings_secrets import ClientSecret, DecryptionKey, KeyFiles, SecretFile
from .settings_sessions import Secret, SessionsSettings, session_faults, with_clients_of_kratos
from .settings_values import (
    EMBEDDED,
    MEMORY,
    OFF,
    Address,
    AdminToken,
    Algorithm,
    AppName,
    Bytes,
    ClientAlgorithm,
    Directory,
    DurabilityLevel,
    File,
    HostName,
    IssuerName,
    KeysUri,
    Listed,
    Number,
    PublicUrl,
    RedisUrl,
    Seconds,
)

ENV_PREFIX = "BCL_"
CONFIG_VARIABLE = "BCL_CONFIG"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ClientOptions(_Model):
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

    @property
    def secret(self) -> bytes | None:
        """What signs this client's tokens, where that is no key of the issuer."""
        secret = self.client_secret or self.client_secret_file
        return None if secret is None else secret.get_secret_value().encode()


class IssuerOptions(_Model):
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
    """The provider's name in `app.presets`: defaults for it, and what `check` says of it."""
    aliases: Annotated[tuple[IssuerName, ...], Listed] = ()
    """Other names under which the same provider signs (Zitadel: one for each of its hosts)."""
    jwks_uri: KeysUri | None = None
    """Where the keys are; found by discovery when it is not said."""
    clients: Annotated[tuple[ClientSettings, ...], Field(min_length=1)]
    sessions: SessionsSettings | None = None
    """Its session API; without it, nobody can list or end its sessions here."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        return (self.issuer, *self.aliases)

    @cached_property
    def client_ids(self) -> tuple[str, ...]:
        return tuple(client.client_id for client in self.clients)

    @property
    def signs(self) -> bool:
        """Whether it sends logout tokens. Kratos does not: there are no keys to fetch."""
        return self.sessions is None or self.sessions.kind != "kratos"

    @cached_property
    def clients_differ(self) -> bool:
        """Whether a client has algorithms of its own."""
        return any(client.algorithms is not None for client in self.clients)

    @cached_property
    def keys_to_decrypt(self) -> tuple[DecryptionKey, ...]:
        return tuple(key for keys in self.decryption_keys or () for key in keys)


class Settings(IssuerOptions, ClientOptions):
    """Everything. Build it with `load`."""

    redis_url: RedisUrl
    issuers: Annotated[tuple[IssuerSettings, ...], Field(min_length=1)]
    sessions_secret: Secret | None = None
    """The secret of the one ``[issuers.sessions]``, so that it can come from the environment."""
    listen: Address = ("127.0.0.1", 8000)
    admin_listen: Address = ("127.0.0.1", 9000)
    public_url: PublicUrl | None = None
    """Where providers reach ``listen``, through whatever stands in front; for `check` alone."""
    workers: Annotated[Number, Field(ge=1, le=256)] = 1
    """Processes that serve as one, a core each."""
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
    It ends sooner when nothing comes any more."""
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


# One issuer with one client needs no file: these stand for issuers[0] and its one client.
_SHORT_ISSUER = ("issuer", "preset", "jwks_uri", "aliases")
_SHORT_CLIENT = ("client_id", "app")
_TOP_LEVEL = frozenset(Settings.model_fields) | {*_SHORT_ISSUER, *_SHORT_CLIENT}
_IN_ENVIRONMENT = _TOP_LEVEL - {"issuers", "canary", "account_apps", "admin_oidc"}


class SettingsFault(Exception):
    """The settings can not be used; ``faults`` holds a line for each fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the file (``path``, else ``BCL_CONFIG``, else none) and the environment.

    Raises `SettingsFault` with every fault that was found.
    """
    if path is None and environ.get(CONFIG_VARIABLE):
        path = Path(environ[CONFIG_VARIABLE])
    raw = _read_file(path) if path is not None else {}
    faults, shown = _overlay(raw, environ)
    _expand_short_form(raw, shown, faults)
    with_clients_of_kratos(raw)
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        for detail in details:
            if detail["type"] == "too_short" and _is_echo(detail["loc"], details):
                continue
            sentence = _plain(detail["loc"], detail["type"], detail["msg"])
            faults.append(_line(detail["loc"], sentence, shown))
    across = (
        *faults_across(raw), *session_faults(raw), *canary_faults(raw), *account_faults(raw),
        *admin_faults(raw),
    )  # fmt: skip
    faults += [_line(loc, sentence, shown) for loc, sentence in across]
    if faults or settings is None:
        raise SettingsFault(sorted(set(faults)))
    return _resolve(settings)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsFault([f"{path}: can not be read ({error.strerror})"]) from None
    except UnicodeDecodeError:
        raise SettingsFault([f"{path}: not UTF-8"]) from None
    except RecursionError:
        raise SettingsFault([f"{path}: not TOML (nested too deeply)"]) from None
    except ValueError as error:
        # The parser's message may quote the text at the fault; its end only says where. Plain
        # ValueErrors: a NUL in the path, an integer of thousands of digits.
        where = re.search(r"\(at (line \d+, column \d+|end of document)\)$", str(error))
        raise SettingsFault([f"{path}: not TOML {where[0] if where else ''}".rstrip()]) from None


def _overlay(raw: dict[str, Any], environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Put ``BCL_*`` over the file; returns faults, and how to show the settings it set."""
    faults: list[str] = []
    shown: dict[str, str] = {}
    for variable in sorted(environ):
        name = variable.removeprefix(ENV_PREFIX).lower()
        if not variable.startswith(ENV_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        if name not in _IN_ENVIRONMENT or variable != f"{ENV_PREFIX}{name.upper()}":
            faults.append(f"{variable}: unknown setting")
            continue
        raw[name] = environ[variable]
        shown[name] = variable
    return faults, shown


def _expand_short_form(raw: dict[str, Any], shown: dict[str, str], faults: list[str]) -> None:
    """Turn ``issuer``, ``client_id``, ... of the top level into one issuer with one client."""
    short = [name for name in (*_SHORT_ISSUER, *_SHORT_CLIENT) if name in raw]
    if not short:
        return
    if "issuers" in raw:
        for name in short:
            faults.append(_line((name,), "stands beside [[issuers]]; say it there", shown))
            del raw[name]
        return
    client = {name: raw.pop(name) for name in _SHORT_CLIENT if name in raw}
    issuer = {name: raw.pop(name) for name in _SHORT_ISSUER if name in raw}
    raw["issuers"] = [{**issuer, "clients": [client]}]
    from_environment = not raw.keys() - shown.keys() - {"issuers"}
    for name in (*_SHORT_ISSUER, *_SHORT_CLIENT):
        missing = ENV_PREFIX + name.upper() if from_environment else name
        spelled = shown.get(name, name if name in short else missing)
        place = f"issuers[0].{name}" if name in _SHORT_ISSUER else f"issuers[0].clients[0].{name}"
        shown[place] = spelled


def _line(loc: tuple[int | str, ...], sentence: str, shown: Mapping[str, str]) -> str:
    name = ""
    for part in loc:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return f"{shown.get(name, name)}: {sentence}"


def _plain(loc: tuple[int | str, ...], kind: str, message: str) -> str:
    """The library's message without its jargon."""
    match kind:
        case "missing":
            return f"is required{_HINTS.get(loc[-1], '')}"
        case "extra_forbidden":
            return "unknown setting"
        case _:
            return message.removeprefix("Value error, ")


def _is_echo(loc: tuple[int | str, ...], details: list[Any]) -> bool:
    """Whether a list is only short because its items have faults of their own."""
    return any(other["loc"][: len(loc)] == loc and other["loc"] != loc for other in details)


_HINTS: dict[int | str, str] = {
    "issuers": " (an [[issuers]] table, or BCL_ISSUER and BCL_CLIENT_ID)",
    "redis_url": ' (such as redis://127.0.0.1:6379/0, or "embedded" to try things out)',
}


def _by_preset(issuer: IssuerSettings) -> dict[str, Any]:
    if issuer.preset is None or "algorithms" in issuer.model_fields_set:
        return {}
    return {"algorithms": presets()[issuer.preset].algorithms}


def _resolve(settings: Settings) -> Settings:
    """Hand the top level's options down to the issuers and clients that do not say their own.

    Below both stands what an issuer's preset says.
    """

    def inherited(options: type[_Model], own: _Model) -> dict[str, Any]:
        names = options.model_fields.keys() & settings.model_fields_set - own.model_fields_set
        return {name: getattr(settings, name) for name in names}

    issuers = tuple(
        issuer.model_copy(
            update={
                **_by_preset(issuer),
                **inherited(IssuerOptions, issuer),
                "sessions": _with_secret(issuer.sessions, settings.sessions_secret),
                "clients": tuple(
                    client.model_copy(
                        update={
                            **inherited(ClientOptions, client),
                            "app": client.app or client.client_id,
                        }
                    )
                    for client in issuer.clients
                ),
            }
        )
        for issuer in settings.issuers
    )
    return settings.model_copy(update={"issuers": issuers})


def _with_secret(
    sessions: SessionsSettings | None, secret: Secret | None
) -> SessionsSettings | None:
    if sessions is None or secret is None or sessions.the_secret is not None:
        return sessions
    return sessions.model_copy(update={"secret": secret})
