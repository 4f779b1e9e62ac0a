"""What must hold across settings, checked on the raw values.

On the raw values, so that these faults are reported together with those of single settings;
what is not of the right type here has its own fault already and is passed over.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import ConnectionPool

from backchannel_logout.keys import APP_NAME

Loc = tuple[int | str, ...]
Fault = tuple[Loc, str]

_REDIS_SCHEMES = ("redis", "rediss", "unix")

# What a Redis URL may say after its "?": who and where, never how long. The library would let
# it override our deadlines.
_REDIS_OPTION = re.compile(
    "db|username|password|protocol|socket_keepalive|health_check_interval|ssl_[a-z_]+"
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([smhd]?)")
# Ten years: longer than any session, and far from where a clock's arithmetic overflows.
_LONGEST = 3650 * 86400

# Mobile apps keep people signed in for weeks; a browser's session is shorter.
DEFAULT_MAX_SESSION_AGE = 30 * 86400


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
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "not a Redis URL (a password in it must be percent-encoded)"
    if parts.scheme not in _REDIS_SCHEMES or not (parts.hostname or parts.scheme == "unix"):
        return "must be redis://host:port/db, rediss://..., unix://..., or embedded"
    if not url.isprintable() or " " in url or parts.fragment:
        return "not a Redis URL (a password in it must be percent-encoded)"
    if parts.scheme != "unix" and not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path):
        return "the path of a Redis URL is the number of a database, such as /0"
    if not all(_REDIS_OPTION.fullmatch(name) for name in parse_qs(parts.query)):
        return "the options of a Redis URL are db, username, password, protocol and ssl_..."
    try:
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001  the library raises what it likes for a wrong option
        return "an option of the Redis URL has a value that can not be used"
    return None


class _Use(NamedTuple):
    """One client's claim to a relying app."""

    loc: Loc
    issuer: int
    explicit: bool
    max_session_age: float | None
    both_claims: object


def faults_across(raw: Mapping[str, Any]) -> Iterator[Fault]:
    """Each fault that needs more than one setting to be seen."""
    names: set[str] = set()
    uses: dict[str, list[_Use]] = defaultdict(list)
    for i, issuer in _tables(raw, "issuers"):
        loc: Loc = ("issuers", i)
        allow_http = _true(issuer.get("allow_http", raw.get("allow_http")))
        yield from _issuer_faults(issuer, loc, allow_http, names)
        yield from _client_faults(raw, issuer, i, uses)
    for of_one_app in uses.values():
        yield from _app_faults(of_one_app)


def _issuer_faults(
    issuer: Mapping[str, Any], loc: Loc, allow_http: bool, taken: set[str]
) -> Iterator[Fault]:
    not_https = "must be https (or a loopback host, or allow_http = true on the issuer)"
    name, jwks_uri = issuer.get("issuer"), issuer.get("jwks_uri")
    if isinstance(jwks_uri, str) and not may_fetch(jwks_uri, allow_http=allow_http):
        yield (*loc, "jwks_uri"), not_https
    if isinstance(name, str) and is_http_url(name) and not may_fetch(name, allow_http=allow_http):
        yield (*loc, "issuer"), not_https
    aliases = issuer.get("aliases", [])
    aliases = aliases.split(",") if isinstance(aliases, str) else aliases
    aliases = aliases if isinstance(aliases, list) else []
    for place, value in [
        ((*loc, "issuer"), name),
        *(((*loc, "aliases", i), alias) for i, alias in enumerate(aliases)),
    ]:
        if not isinstance(value, str):
            continue
        if value.strip() in taken:
            yield place, "another issuer or alias has this name already"
        taken.add(value.strip())


def _client_faults(
    raw: Mapping[str, Any], issuer: Mapping[str, Any], i: int, uses: dict[str, list[_Use]]
) -> Iterator[Fault]:
    """Faults of one issuer's clients; notes in ``uses`` which app each of them belongs to."""
    seen: set[str] = set()
    for j, client in _tables(issuer, "clients"):
        loc: Loc = ("issuers", i, "clients", j)
        client_id, app = client.get("client_id"), client.get("app")
        if not isinstance(client_id, str):
            continue
        if client_id in seen:
            yield (*loc, "client_id"), "another client of this issuer has this id already"
        seen.add(client_id)
        if app is None and not APP_NAME.fullmatch(client_id):
            yield (*loc, "app"), f"is required: the client id is no app name ({APP_NAME.pattern})"
            continue
        age = client.get("max_session_age", raw.get("max_session_age", DEFAULT_MAX_SESSION_AGE))
        uses[app if isinstance(app, str) else client_id].append(
            _Use(
                loc=loc,
                issuer=i,
                explicit=app is not None,
                max_session_age=_seconds_or_none(age),
                both_claims=client.get("both_claims", raw.get("both_claims", "session")),
            )
        )


def _app_faults(uses: list[_Use]) -> Iterator[Fault]:
    """What the clients of one relying app must agree on."""
    several_issuers = len({use.issuer for use in uses}) > 1
    for k, use in enumerate(uses):
        if several_issuers and not use.explicit:
            # Two providers may have handed out one client id to two apps: say that it is one.
            yield (*use.loc, "app"), "is required: a client of another issuer has the same app"
        earlier = uses[:k]
        if any(
            None not in (use.max_session_age, other.max_session_age)
            and use.max_session_age != other.max_session_age
            for other in earlier
        ):
            yield (*use.loc, "max_session_age"), "differs from another client of the same app"
        if any(
            use.issuer == other.issuer and use.both_claims != other.both_claims for other in earlier
        ):
            yield (
                (*use.loc, "both_claims"),
                "differs from another client of the same app and issuer",
            )


def _tables(parent: Mapping[str, Any], name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    tables = parent.get(name)
    for index, table in enumerate(tables if isinstance(tables, list) else []):
        if isinstance(table, dict):
            yield index, table


def _seconds_or_none(value: object) -> float | None:
    try:
        return seconds(value)
    except ValueError:
        return None


def _true(value: object) -> bool:
    return value is True or str(value).lower() in ("true", "t", "1", "yes", "y", "on")
