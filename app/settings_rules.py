"""What must hold across settings, checked on the raw values.

On the raw values, so that these faults are reported together with those of single settings;
what is not of the right type here has its own fault already and is passed over.
"""

import math
import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from backchannel_logout.keys import APP_NAME

Loc = tuple[int | str, ...]
Fault = tuple[Loc, str]

_REDIS_SCHEMES = ("redis", "rediss", "unix")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*([smhd]?)")
# Ten years: longer than any session, and far from where a clock's arithmetic overflows.
_LONGEST = 3650 * 86400


def seconds(value: object) -> float:
    """A duration: a number of seconds, or a text such as ``90s``, ``10m``, ``24h``, ``30d``."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match:
        length = float(match[1]) * _UNITS[match[2] or "s"]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        length = float(value)
    else:
        raise ValueError("a duration is a number of seconds, or a text such as 90s, 10m, 24h, 30d")
    if not math.isfinite(length) or not 0 <= length <= _LONGEST:
        raise ValueError("a duration is between 0 and 3650d")
    return length


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
    plain = url.isprintable() and " " not in url and not parts.query and not parts.fragment
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and plain
        and "@" not in parts.netloc
    )


def may_fetch(url: str, *, allow_http: bool) -> bool:
    """Whether keys may be fetched from there: https, or http on this machine or when allowed."""
    try:
        scheme = urlsplit(url).scheme
        return bool(urlsplit(url).hostname) and (
            scheme == "https" or (scheme == "http" and (allow_http or is_loopback(url)))
        )
    except ValueError:
        return False


def redis_scheme_fault(url: str) -> str | None:
    """What is wrong with a Redis URL, without a word of it: it may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "not a Redis URL"
    if parts.scheme not in _REDIS_SCHEMES or not (parts.hostname or parts.scheme == "unix"):
        return "must be redis://host:port/db, rediss://..., unix://..., or embedded"
    return None


def faults_across(raw: Mapping[str, Any]) -> Iterator[Fault]:
    """Each fault that needs more than one setting to be seen."""
    seen_names: dict[str, Loc] = {}
    apps: dict[str, tuple[int, float | None]] = {}
    for i, issuer in _tables(raw, "issuers"):
        loc: Loc = ("issuers", i)
        allow_http = _true(issuer.get("allow_http", raw.get("allow_http")))
        yield from _issuer_faults(issuer, loc, allow_http, seen_names)
        yield from _client_faults(raw, issuer, i, apps)


def _issuer_faults(
    issuer: Mapping[str, Any], loc: Loc, allow_http: bool, seen: dict[str, Loc]
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
        *(((*loc, "aliases", i), a) for i, a in enumerate(aliases)),
    ]:
        if not isinstance(value, str):
            continue
        first = seen.setdefault(value.strip(), loc)
        if first != loc:
            yield place, "another issuer has this name already"


def _client_faults(
    raw: Mapping[str, Any],
    issuer: Mapping[str, Any],
    i: int,
    apps: dict[str, tuple[int, float | None]],
) -> Iterator[Fault]:
    seen: set[str] = set()
    both_claims: dict[str, Any] = {}
    for j, client in _tables(issuer, "clients"):
        loc: Loc = ("issuers", i, "clients", j)
        client_id, app = client.get("client_id"), client.get("app")
        if not isinstance(client_id, str):
            continue
        if client_id in seen:
            yield (*loc, "client_id"), "another client of this issuer has this id already"
        seen.add(client_id)
        explicit = isinstance(app, str)
        name = app if isinstance(app, str) else client_id
        if not explicit and app is None and not APP_NAME.fullmatch(client_id):
            yield (*loc, "app"), f"is required: the client id is no app name ({APP_NAME.pattern})"
            continue
        age = _seconds_or_none(client.get("max_session_age", raw.get("max_session_age", "30d")))
        first_issuer, first_age = apps.setdefault(name, (i if explicit else -1 - i, age))
        if first_issuer not in (i, -1 - i) and (first_issuer < 0 or not explicit):
            yield (*loc, "app"), "the same app under two issuers must be written in both"
        if None not in (first_age, age) and first_age != age:
            yield (*loc, "max_session_age"), "differs from another client of the same app"
        both = client.get("both_claims", raw.get("both_claims", "session"))
        if both_claims.setdefault(name, both) != both:
            yield (*loc, "both_claims"), "differs from another client of the same app and issuer"


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
    return value is True or str(value).lower() in ("true", "1", "yes", "on")
