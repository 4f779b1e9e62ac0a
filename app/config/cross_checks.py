"""Rules that involve several settings, on typed values: the entry, and those of the top level."""

from collections.abc import Iterator

from app.config.account import AccountApp
from app.config.base import Fault, Loc, rule
from app.config.issuer_checks import issuer_checks
from app.config.model import Settings

# Hosts that stand for every interface.
_ALL_INTERFACES = {"", "0.0.0.0", "::"}  # noqa: S104  compared, not listened on


def cross_checks(settings: Settings) -> Iterator[Fault]:
    """Every fault. The options of the top level must have been handed down."""
    yield from issuer_checks(settings)
    yield from _account_switch(settings)
    yield from _account_tokens(settings)
    yield from _account_apps(settings)
    yield from _admin_oidc_requirement(settings)
    yield from _admin_oidc_client(settings)
    yield from _addresses(settings)


# -- users' own sessions ---------------------------------------------------------------------------


@rule
def _account_switch(settings: Settings) -> Iterator[Fault]:
    if settings.account_listen is None:
        for name in ("account_audience", "account_scope", "account_origins", "account_apps"):
            if settings.get(name):
                yield (name,), "does nothing without account_listen"


@rule
def _account_tokens(settings: Settings) -> Iterator[Fault]:
    audience = settings.account_audience
    if (audience is None) != (settings.account_scope is None):
        yield ("account_audience",), "goes together with account_scope: set both or neither"
    client_ids = {client.client_id for issuer in settings.issuers for client in issuer.clients}
    if audience in client_ids:
        yield ("account_audience",), "is a client's id, so its ID tokens would be accepted too"


def _account_apps(settings: Settings) -> Iterator[Fault]:
    tokens = set()
    for i, app in enumerate(settings.get("account_apps") or ()):
        loc: Loc = ("account_apps", i)
        names = {"token", "token_file"} & app.model_fields_set
        yield from _account_app_exists(loc, app, settings)
        if len(names) != 1:
            yield (*loc, "token"), "set either token or token_file"
        for name in names:
            token = app.get(name)
            if token is not None and token in tokens:
                yield (*loc, name), "is also another app's token"
            tokens.add(token)


@rule
def _account_app_exists(loc: Loc, app: AccountApp, settings: Settings) -> Iterator[Fault]:
    apps = {client.app for issuer in settings.issuers for client in issuer.clients}
    if app.app not in apps:
        yield (*loc, "app"), "is the app of no client"


# -- operators -------------------------------------------------------------------------------------


@rule
def _admin_oidc_requirement(settings: Settings) -> Iterator[Fault]:
    oidc = settings.admin_oidc
    if oidc is not None and (oidc.required_group is None) == (oidc.required_claim is None):
        sentence = "set who may sign in: required_group or required_claim; there is no default"
        yield ("admin_oidc",), sentence


@rule
def _admin_oidc_client(settings: Settings) -> Iterator[Fault]:
    """The client must be configured: its logout tokens end the console's sessions."""
    oidc = settings.admin_oidc
    if oidc is None:
        return
    issuers = [issuer for issuer in settings.issuers if issuer.issuer == oidc.issuer]
    if not issuers:
        yield ("admin_oidc", "issuer"), "is none of the issuers; add it, with this client"
    elif oidc.client_id not in {client.client_id for client in issuers[0].clients}:
        sentence = "is no client of that issuer; add it, so that logouts end the console's sessions"
        yield ("admin_oidc", "client_id"), sentence


@rule
def _addresses(settings: Settings) -> Iterator[Fault]:
    seen: list[tuple[str, str, int]] = []
    for name, (given_host, port) in settings.addresses.items():
        host = "127.0.0.1" if given_host == "localhost" else given_host
        for other, other_host, other_port in seen:
            overlap = host == other_host or not {host, other_host}.isdisjoint(_ALL_INTERFACES)
            if overlap and port == other_port != 0:
                yield (name,), f"is also the address of {other}; give each its own port"
        seen.append((name, host, port))
