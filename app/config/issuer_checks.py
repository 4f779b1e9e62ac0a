"""Rules for issuers, their clients and their session APIs.

They run on typed values, as all `cross_checks` do.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from app.config.base import Fault, Loc, Table, rule
from app.config.issuers import ClientSettings, IssuerSettings
from app.config.model import Settings
from app.config.session_api import (
    NAMES_OF_KIND,
    SHARED_NAMES,
    URL_NAMES,
    SessionsSettings,
    required_names,
)
from app.config.types import SHARED_SECRET, may_fetch
from backchannel_logout.contract.keys import APP_NAME


class _IssuerAt(NamedTuple):
    loc: Loc
    settings: IssuerSettings


class _ClientAt(NamedTuple):
    loc: Loc
    issuer: int
    settings: ClientSettings


def issuer_checks(settings: Settings) -> Iterator[Fault]:
    """Every fault of these rules."""
    issuers = [_IssuerAt(("issuers", i), it) for i, it in enumerate(settings.get("issuers") or ())]
    clients = [
        _ClientAt((*issuer.loc, "clients", j), i, client)
        for i, issuer in enumerate(issuers)
        for j, client in enumerate(issuer.settings.get("clients") or ())
    ]
    session_apis = [
        (loc, sessions)
        for loc, issuer in issuers
        if (sessions := issuer.get("sessions")) is not None
    ]
    for issuer in issuers:
        yield from _must_be_https(issuer.loc, issuer.settings, "issuer", issuer.settings)
        yield from _must_be_https(issuer.loc, issuer.settings, "jwks_uri", issuer.settings)
        yield from _decryption_keys(issuer)
        yield from _session_api(issuer)
    for client in clients:
        yield from _app(client)
        yield from _client_secret(client)
        yield from _canary_app(client, settings)
    yield from _repeated_names(issuers)
    yield from _repeated_client_ids(clients)
    yield from _clients_of_one_app(clients)
    yield from _sessions_secret(settings, session_apis)
    yield from _kratos_public_urls(settings, session_apis)


# -- issuers ---------------------------------------------------------------------------------------


@rule
def _must_be_https(loc: Loc, table: Table, name: str, issuer: IssuerSettings) -> Iterator[Fault]:
    url = getattr(table, name)
    if url is not None and not may_fetch(url, allow_http=issuer.allow_http):
        sentence = "must be https (or a loopback host, or allow_http = true on the issuer)"
        yield (*loc, name), sentence


@rule
def _decryption_keys(issuer: _IssuerAt) -> Iterator[Fault]:
    if issuer.settings.encryption == "required" and not issuer.settings.decryption_keys:
        yield (*issuer.loc, "encryption"), "required, but there are no decryption_keys"


def _repeated_names(issuers: list[_IssuerAt]) -> Iterator[Fault]:
    seen = set()
    for loc, issuer in issuers:
        aliases = enumerate(issuer.get("aliases") or ())
        for place, name in [
            ((*loc, "issuer"), issuer.get("issuer")),
            *(((*loc, "aliases", k), alias) for k, alias in aliases),
        ]:
            if name in seen:
                yield place, "another issuer or alias already has this name"
            if name is not None:
                seen.add(name)


# -- clients ---------------------------------------------------------------------------------------


@rule
def _app(client: _ClientAt) -> Iterator[Fault]:
    if not APP_NAME.fullmatch(client.settings.app):
        sentence = f"is required: the client id is no app name ({APP_NAME.pattern})"
        yield (*client.loc, "app"), sentence


@rule
def _client_secret(client: _ClientAt) -> Iterator[Fault]:
    """A client's tokens are signed with its secret or with the issuer's keys, never with either."""
    algorithms = client.settings.algorithms or ()
    names = sorted({"client_secret", "client_secret_file"} & client.settings.model_fields_set)
    if SHARED_SECRET not in algorithms:
        for name in names:
            yield (*client.loc, name), f'is only for algorithms = ["{SHARED_SECRET}"]'
        return
    if len(algorithms) > 1:
        sentence = f"{SHARED_SECRET} must be alone: a secret or keys, never both"
        yield (*client.loc, "algorithms"), sentence
    if not names:
        sentence = f"is required for {SHARED_SECRET} (or client_secret_file)"
        yield (*client.loc, "client_secret"), sentence
    if len(names) > 1:
        yield (*client.loc, "client_secret_file"), "conflicts with client_secret; set one of them"


@rule
def _canary_app(client: _ClientAt, settings: Settings) -> Iterator[Fault]:
    if settings.canary is not None and client.settings.app == settings.canary.app:
        yield (*client.loc, "app"), "is the canary's app; set another one in [canary]"


def _repeated_client_ids(clients: list[_ClientAt]) -> Iterator[Fault]:
    seen = set()
    for client in clients:
        key = client.issuer, client.settings.get("client_id")
        if key in seen and None not in key:
            yield (*client.loc, "client_id"), "another client of this issuer already has this id"
        seen.add(key)


def _clients_of_one_app(clients: list[_ClientAt]) -> Iterator[Fault]:
    """What the clients of one relying app must agree on."""
    by_app: dict[str, list[_ClientAt]] = defaultdict(list)
    for client in clients:
        if (app := client.settings.get("app")) is not None:
            by_app[app].append(client)
    for group in by_app.values():
        several_issuers = len({client.issuer for client in group}) > 1
        for k, client in enumerate(group):
            earlier = group[:k]
            if several_issuers and "app" not in client.settings.model_fields_set:
                # Two providers may have given one client id to different apps.
                sentence = "is required: a client of another issuer has the same app"
                yield (*client.loc, "app"), sentence
            if any(_differ(client, other, "max_session_age") for other in earlier):
                sentence = "differs from another client of the same app"
                yield (*client.loc, "max_session_age"), sentence
            if any(
                client.issuer == other.issuer and _differ(client, other, "both_claims")
                for other in earlier
            ):
                sentence = "differs from another client of the same app and issuer"
                yield (*client.loc, "both_claims"), sentence


def _differ(client: _ClientAt, other: _ClientAt, name: str) -> bool:
    values = {client.settings.get(name), other.settings.get(name)}
    return len(values) > 1 and None not in values


# -- session APIs ----------------------------------------------------------------------------------


@rule
def _session_api(issuer: _IssuerAt) -> Iterator[Fault]:
    sessions, loc = issuer.settings.sessions, (*issuer.loc, "sessions")
    if sessions is None:
        return
    names = sessions.model_fields_set
    for name in URL_NAMES:
        yield from _must_be_https(loc, sessions, name, issuer.settings)
    if {"secret", "secret_file"} <= names:
        yield (*loc, "secret_file"), "conflicts with secret; set one of them"
    kind = sessions.kind
    for name in sorted(names - SHARED_NAMES - NAMES_OF_KIND[kind]):
        yield (*loc, name), f"is not for kind {kind}"
    if kind == "kratos" and "jwks_uri" in issuer.settings.model_fields_set:
        yield (*issuer.loc, "jwks_uri"), "is not for Kratos, which signs nothing"
    for name in sorted(required_names(kind, issuer.settings.issuer) - names):
        yield (*loc, name), "is required"


def _sessions_secret(
    settings: Settings, session_apis: list[tuple[Loc, SessionsSettings]]
) -> Iterator[Fault]:
    """The secret of one provider must never be sent to another."""
    without_secret = [(loc, api) for loc, api in session_apis if not api.sets_secret]
    if "sessions_secret" in settings.model_fields_set:
        if len(without_secret) != 1:
            yield ("sessions_secret",), "is for exactly one [issuers.sessions] without a secret"
        return
    for loc, api in without_secret:
        if api.get("kind") in ("auth0", "keycloak"):
            sentence = "is required (or secret_file, or BCL_SESSIONS_SECRET)"
            yield (*loc, "sessions", "secret"), sentence


@rule
def _kratos_public_urls(
    settings: Settings, session_apis: list[tuple[Loc, SessionsSettings]]
) -> Iterator[Fault]:
    """A user's credential must reach only one Kratos. Without the users' listener, none gets it."""
    if settings.account_listen is None:
        return
    with_url = [loc for loc, api in session_apis if "public_url" in api.model_fields_set]
    for loc in with_url[1:]:
        sentence = "is set for another issuer, and only one Kratos can identify users"
        yield (*loc, "sessions", "public_url"), sentence
