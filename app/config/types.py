"""The values of settings: what each may look like, as predicates and as types of the model.

No message holds a value: it may be a secret.
"""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from backchannel_logout.contract.keys import APP_NAME
from backchannel_logout.redis.connection import check_url

EMBEDDED = "embedded"
"""The ``redis_url`` that starts a server of our own; it must be said."""

OFF = "off"
"""The ``journal`` of a service that keeps none."""

GENERATE = "generate"
"""The ``admin_token`` that is made at each start."""

# Guesses are limited to a hundred a minute; what is this short and no word stands that for long.
_SHORTEST_TOKEN = 8

_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[?[0-9A-Fa-f:]+\]?")

_REDIS_SCHEME = re.compile(r"(unix|rediss?|rediss?\+(sentinel|cluster))://[^/?]*[^/?@:]|unix:///")

# What a Redis URL may say after its "?": who and where, never how long. The library would let
# it override our deadlines.
_REDIS_OPTION = re.compile(
    "db|(sentinel_)?(username|password)|protocol|socket_keepalive|health_check_interval|ssl_[a-z_]+"
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([smhd]?)")
# Ten years: longer than any session, and far from where a clock's arithmetic overflows.
_LONGEST = 3650 * 86400

_SIZE_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"(\d{1,13})\s*(B|KiB|MiB|GiB)?")
_LARGEST = 1 << 40
_NO_SIZE = "a size is a number of bytes, or a text such as 64KiB, 256MiB, 1GiB"


def seconds(value: object) -> float:
    """A duration: a number of seconds, or a text such as ``90s``, ``10m``, ``24h``, ``30d``."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        length: float = float(match[1]) * _UNITS[match[2] or "s"]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        length = value
    else:
        raise ValueError("a duration is a number of seconds, or a text such as 90s, 10m, 24h, 30d")
    # Before it becomes a float: TOML's integers have no end. NaN is in no range.
    if not 0 <= length <= _LONGEST:
        raise ValueError("a duration is between 0 and 3650d")
    return float(length)


def size(value: object) -> int:
    """A number of bytes: a whole number, or a text such as ``64KiB``, ``256MiB``, ``1GiB``."""
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        value = int(match[1]) * _SIZE_UNITS[match[2] or "B"]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(_NO_SIZE)  # noqa: TRY004  pydantic reports a ValueError
    if not 0 <= value <= _LARGEST:
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
    """Whether this can be an issuer: a scheme, a host, and nothing that a fetch would hide."""
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
    """Whether this can be a ``jwks_uri``. A query may be part of it (Azure AD B2C's is)."""
    return is_http_url(url.partition("?")[0]) and url.isprintable() and " " not in url


def may_fetch(url: str, *, allow_http: bool) -> bool:
    """Whether keys may be fetched from there: https, or http on this machine or when allowed."""
    try:
        scheme = urlsplit(url).scheme
        return bool(urlsplit(url).hostname) and (
            scheme == "https" or (scheme == "http" and (allow_http or is_loopback(url)))
        )
    except ValueError:
        return False


def redis_url_fault(url: str) -> str | None:
    """What is wrong with a Redis URL, without a word of it: it may hold a password."""
    if not _REDIS_SCHEME.match(url):
        return (
            "must be redis://host:port/db, rediss://..., unix://..., redis+sentinel://..., "
            "redis+cluster://..., or embedded"
        )
    address, _, query = url.partition("?")
    if not url.isprintable() or " " in url or "#" in url or address.count("@") > 1:
        return "not a Redis URL (a password in it must be percent-encoded)"
    if not all(_REDIS_OPTION.fullmatch(name) for name in parse_qs(query)):
        return "the options of a Redis URL are db, username, password, protocol and ssl_..."
    if re.match(r"rediss?://", url) and not re.search(r"://[^/]+(/|/[0-9]{1,5})?$", address):
        return "the path of a Redis URL is the number of a database, such as /0"
    try:
        check_url(url)
    except Exception:  # noqa: BLE001  the library raises what it likes for a wrong option
        return "not a Redis URL: its host, port or an option can not be used"
    return None


# Asymmetric only: with a shared secret, every relying app could sign logouts for the others.
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
]  # fmt: skip

SHARED_SECRET = "HS256"
"""For one client, with a secret of its own, and for nobody else."""

ClientAlgorithm = Algorithm | Literal["HS256"]


def _listed(value: object) -> object:
    """A list; from the environment it is a text with commas."""
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
    """``replicas:2`` as (``replicas``, 2); the other levels need no number."""
    level, _, number = value.partition(":") if isinstance(value, str) else ("", "", "")
    if level in ("memory", "fsync") and not number and value == level:
        return level, 0
    if level == "replicas" and re.fullmatch(r"[1-9]\d?", number):
        return level, int(number)
    raise ValueError("must be memory, fsync, or replicas:N with N from 1 to 99")


def _admin_token(value: SecretStr) -> SecretStr:
    token = value.get_secret_value()
    if token == GENERATE:
        return value
    if not (_SHORTEST_TOKEN <= len(token) <= 1024):
        raise ValueError(f"has {_SHORTEST_TOKEN} to 1024 characters, or is {GENERATE}")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError("is of printable ASCII characters, without blanks")
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
    """How far Redis must have brought a write before it counts as written."""

    level: Literal["memory", "fsync", "replicas"]
    replicas: int


MEMORY = Durability("memory", 0)

Seconds = Annotated[float, BeforeValidator(seconds)]
Address = Annotated[tuple[str, int], BeforeValidator(_address)]
AppName = Annotated[str, AfterValidator(_app_name)]
IssuerName = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_http_url)]
PublicUrl = Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_http_url)]
KeysUri = Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_keys_uri)]
Number = Annotated[int, BeforeValidator(_not_bool)]
Listed = BeforeValidator(_listed)
AdminToken = Annotated[SecretStr, AfterValidator(_admin_token)]
HostName = Annotated[str, AfterValidator(_host_name)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
DurabilityLevel = Annotated[Durability, BeforeValidator(_durability)]
Bytes = Annotated[int, BeforeValidator(size)]
File = Annotated[Path, BeforeValidator(_file)]
Directory = Annotated[Path, BeforeValidator(_directory)]
