"""The types of settings' values: durations, sizes, addresses, URLs.

No message contains the value: it may be a secret.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from backchannel_logout.contract.keys import APP_NAME
from backchannel_logout.redis.connection import check_url

EMBEDDED = "embedded"
"""The ``redis_url`` that starts an embedded server. It is never a default."""

OFF = "off"
"""The ``journal`` of a receiver without one."""

GENERATE = "generate"
"""The ``admin_token`` that stands for a new one at each start."""

# A hundred guesses a minute are allowed, which a random token of this length withstands.
_MIN_TOKEN_LENGTH = 8

_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[?[0-9A-Fa-f:]+\]?")

_REDIS_SCHEME = re.compile(r"(unix|rediss?|rediss?\+(sentinel|cluster))://[^/?]*[^/?@:]|unix:///")

# The options of a Redis URL: credentials and TLS, but no timeouts, which would override our
# deadlines.
_REDIS_OPTION = re.compile(
    "db|(sentinel_)?(username|password)|protocol|socket_keepalive|health_check_interval|ssl_[a-z_]+"
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([smhd]?)")
# Ten years: longer than any session, and far from where a clock's arithmetic overflows.
_MAX_SECONDS = 3650 * 86400

_SIZE_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"(\d{1,13})\s*(B|KiB|MiB|GiB)?")
_MAX_BYTES = 1 << 40
_SIZE_FAULT = "a size is a number of bytes, or a text such as 64KiB, 256MiB, 1GiB"


@dataclass(frozen=True)
class Form:
    """How the values of a type are written, for docs/settings.md."""

    text: str


def seconds(value: object) -> float:
    """A duration: a number of seconds, or a text such as ``90s``, ``10m``, ``24h``, ``30d``."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        length: float = float(match[1]) * _UNITS[match[2] or "s"]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        length = value
    else:
        raise ValueError("a duration is a number of seconds, or a text such as 90s, 10m, 24h, 30d")
    # Before it becomes a float: TOML's integers have no limit. NaN is in no range.
    if not 0 <= length <= _MAX_SECONDS:
        raise ValueError("a duration is between 0 and 3650d")
    return float(length)


def size(value: object) -> int:
    """A number of bytes: a whole number, or a text such as ``64KiB``, ``256MiB``, ``1GiB``."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        value = int(match[1]) * _SIZE_UNITS[match[2] or "B"]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(_SIZE_FAULT)  # noqa: TRY004  pydantic reports a ValueError
    if not 0 <= value <= _MAX_BYTES:
        raise ValueError("a size is between 0 and 1024GiB")
    return value


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_http_url(url: str) -> bool:
    """Whether this can be an issuer: scheme and host, without user, query or fragment."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    plain = url.isprintable() and not any(mark in url for mark in " ?#")
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and plain
        and "@" not in parts.netloc
    )


def is_keys_uri(url: str) -> bool:
    """Whether this can be a ``jwks_uri``, which may have a query (as for Azure AD B2C)."""
    return is_http_url(url.partition("?")[0]) and url.isprintable() and " " not in url


def may_fetch(url: str, *, allow_http: bool) -> bool:
    """Whether keys may be fetched from this URL: https, or http on this machine or if allowed."""
    try:
        scheme = urlsplit(url).scheme
        return bool(urlsplit(url).hostname) and (
            scheme == "https" or (scheme == "http" and (allow_http or is_loopback(url)))
        )
    except ValueError:
        return False


def redis_url_fault(url: str) -> str | None:
    """The fault of a Redis URL, which quotes nothing of it: it may contain a password."""
    if not _REDIS_SCHEME.match(url):
        return (
            "must be redis://host:port/db, rediss://..., unix://..., redis+sentinel://..., "
            "redis+cluster://..., or embedded"
        )
    address, _, query = url.partition("?")
    if not url.isprintable() or " " in url or "#" in url or address.count("@") > 1:
        return "is not a Redis URL (a password in it must be percent-encoded)"
    if not all(_REDIS_OPTION.fullmatch(name) for name in parse_qs(query)):
        return "the options of a Redis URL are db, username, password, protocol and ssl_..."
    if re.match(r"rediss?://", url) and not re.search(r"://[^/]+(/|/[0-9]{1,5})?$", address):
        return "the path of a Redis URL is the number of a database, such as /0"
    try:
        check_url(url)
    except Exception:  # noqa: BLE001  the library raises any exception for a wrong option
        return "is not a Redis URL: its host, its port or an option is wrong"
    return None


# Asymmetric only: with a shared secret, every relying app could sign logouts for the others.
Algorithm = Annotated[
    Literal[
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
        "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
    ],
    Form("algorithm"),
]  # fmt: skip

SHARED_SECRET = "HS256"
"""Only for a client with a secret of its own."""

ClientAlgorithm = Annotated[Algorithm | Literal["HS256"], Form("algorithm")]


def _listed(value: object) -> object:
    """Split a text with commas: the form of a list in the environment."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _address(value: object) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(\d{1,5})", str(value))
    if not match or int(match[2]) > 65535:
        raise ValueError("an address is host:port, such as 127.0.0.1:8000 or [::1]:8000")
    return match[1].strip("[]"), int(match[2])


def _app_name(value: str) -> str:
    if not APP_NAME.fullmatch(value):
        raise ValueError(f"a relying app's name matches {APP_NAME.pattern}")
    return value


def _http_url(value: str) -> str:
    if not is_http_url(value):
        raise ValueError("must be an http(s) URL without user, password, query or fragment")
    return value


def _keys_uri(value: str) -> str:
    if not is_keys_uri(value):
        raise ValueError("must be an http(s) URL without user, password or fragment")
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if url != EMBEDDED and (fault := redis_url_fault(url)):
        raise ValueError(fault)
    return value


def _directory(value: object) -> object:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must name a directory")
    return value


def _file(value: object) -> object:
    if not isinstance(value, str) or not value or "\0" in value or value.endswith("/"):
        raise ValueError(f"must name a file, or be {OFF}")
    return value


def _durability(value: object) -> object:
    """Parse ``replicas:2`` as (``replicas``, 2); the other levels have no number."""
    level, _, number = value.partition(":") if isinstance(value, str) else ("", "", "")
    if level in ("memory", "fsync") and not number and value == level:
        return level, 0
    if level == "replicas" and re.fullmatch(r"[1-9]\d?", number):
        return level, int(number)
    raise ValueError("must be memory, fsync, or replicas:N with N from 1 to 99")


def _admin_token(value: SecretStr) -> SecretStr:
    if value.get_secret_value() == GENERATE:
        return value
    if not (_MIN_TOKEN_LENGTH <= len(value) <= 1024):
        raise ValueError(f"has {_MIN_TOKEN_LENGTH} to 1024 characters, or is {GENERATE}")
    return printable_token(value)


def printable_token(value: SecretStr) -> SecretStr:
    """A token as it fits into a header."""
    token = value.get_secret_value()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError("consists of printable ASCII characters without spaces")
    return value


def _host_name(value: str) -> str:
    if not _HOST_NAME.fullmatch(value):
        raise ValueError("a host is a name or an address without its port, such as ops.example")
    return value.strip("[]").lower()


def _not_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  pydantic reports a ValueError
    return value


class Durability(NamedTuple):
    """What Redis must have done with a write before it counts as durable."""

    level: Literal["memory", "fsync", "replicas"]
    replicas: int


MEMORY = Durability("memory", 0)

Seconds = Annotated[float, BeforeValidator(seconds), Form("duration")]
Address = Annotated[tuple[str, int], BeforeValidator(_address), Form("`host:port`")]
AppName = Annotated[str, AfterValidator(_app_name), Form(f"text like `{APP_NAME.pattern}`")]
IssuerName = Annotated[
    str, Field(min_length=1, max_length=1024), AfterValidator(_http_url), Form("URL")
]
PublicUrl = Annotated[
    str, Field(min_length=1, max_length=2048), AfterValidator(_http_url), Form("URL")
]
KeysUri = Annotated[
    str, Field(min_length=1, max_length=2048), AfterValidator(_keys_uri), Form("URL")
]
Number = Annotated[int, BeforeValidator(_not_bool)]
Listed = BeforeValidator(_listed)
AdminToken = Annotated[
    SecretStr,
    AfterValidator(_admin_token),
    Form(f"text, {_MIN_TOKEN_LENGTH} to 1024 characters, or `{GENERATE}`"),
]
HostName = Annotated[str, AfterValidator(_host_name), Form("host name")]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url), Form("URL")]
DurabilityLevel = Annotated[
    Durability, BeforeValidator(_durability), Form("`memory`, `fsync` or `replicas:N`")
]
Bytes = Annotated[int, BeforeValidator(size), Form("size")]
File = Annotated[Path, BeforeValidator(_file), Form("path")]
Directory = Annotated[Path, BeforeValidator(_directory), Form("path")]
