"""What must hold across settings, checked on the raw values.

On the raw values, so that these faults are reported together with those of single settings;
what is not of the right type here has its own fault already and is passed over.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from app.config.types import SHARED_SECRET, is_http_url, may_fetch, seconds
from backchannel_logout.contract.keys import APP_NAME

Loc = tuple[int | str, ...]
Fault = tuple[Loc, str]

# Mobile apps keep people signed in for weeks; a browser's session is shorter.
DEFAULT_MAX_SESSION_AGE = 30 * 86400


_EVERYWHERE = {"", "0.0.0.0", "::"}  # noqa: S104  compared, not listened on


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
        if issuer.get("encryption", raw.get("encryption")) == "required" and not issuer.get(
            "decryption_keys", raw.get("decryption_keys")
        ):
            yield (*loc, "encryption"), "required, and there are no decryption_keys"
        yield from _client_faults(raw, issuer, i, uses)
    for of_one_app in uses.values():
        yield from _app_faults(of_one_app)


def address_faults(addresses: Mapping[str, tuple[str, int]]) -> Iterator[Fault]:
    """Listeners that would take each other's port, by the names of their settings."""
    taken: list[tuple[str, str, int]] = []
    for name, (named, port) in addresses.items():
        host = "127.0.0.1" if named == "localhost" else named
        for other, other_host, other_port in taken:
            meet = host == other_host or not {host, other_host}.isdisjoint(_EVERYWHERE)
            if meet and port == other_port != 0:
                yield (name,), f"is the address of {other} too; give each its own port"
        taken.append((name, host, port))


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
        yield from _secret_faults(client, loc)
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


def _secret_faults(client: Mapping[str, Any], loc: Loc) -> Iterator[Fault]:
    """A client's tokens are signed by its secret, or by keys of the issuer: never by either."""
    algorithms = client.get("algorithms", [])
    algorithms = algorithms.split(",") if isinstance(algorithms, str) else algorithms
    shared = isinstance(algorithms, list) and SHARED_SECRET in algorithms
    said = [name for name in ("client_secret", "client_secret_file") if client.get(name)]
    if shared and len(algorithms) > 1:
        yield (*loc, "algorithms"), f"{SHARED_SECRET} stands alone: a secret, or keys, never both"
    if shared and not said:
        yield (*loc, "client_secret"), f"is required for {SHARED_SECRET} (or client_secret_file)"
    for name in said[1:] if shared else said:
        only = f'is for algorithms = ["{SHARED_SECRET}"] only'
        yield (*loc, name), "stands beside client_secret; say one" if shared else only


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
