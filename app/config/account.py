"""The users' own sessions: the settings that begin with ``account_``, and what must hold in them.

Nobody may ask anything by default: the listener is off, no app has a credential, and no access
token is for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from app.config.session_api import SecretFile
from app.config.types import AppName, is_http_url

# As many bits as nobody guesses: wrong ones are not counted, for browsers and apps share peers.
_SHORTEST = 32

Fault = tuple[tuple[int | str, ...], str]

_NAMES = ("account_audience", "account_scope", "account_origins", "account_apps")


def _token(value: SecretStr) -> SecretStr:
    token = value.get_secret_value()
    if not _SHORTEST <= len(token) <= 1024:
        raise ValueError(f"has {_SHORTEST} to 1024 characters")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError("is of printable ASCII characters, without blanks")
    return value


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if not is_http_url(value) or parts.path or value != value.lower():
        raise ValueError("an origin is http(s)://host[:port], in small letters, without a path")
    return value


ServiceToken = Annotated[SecretStr, AfterValidator(_token)]
Origin = Annotated[str, Field(max_length=1024), AfterValidator(_origin)]
Audience = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^\S+$")]
Scope = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")]


class AccountApp(BaseModel):
    """A relying app whose backend may ask for its users: ``[[account_apps]]``."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    app: AppName
    token: ServiceToken | None = None
    token_file: Annotated[SecretFile, AfterValidator(_token)] | None = None
    """Names the file that the token is read from, at the start; holds the token afterwards."""

    @property
    def the_token(self) -> str:
        found = self.token or self.token_file
        return found.get_secret_value() if found else ""


def account_faults(raw: Mapping[str, Any]) -> Iterator[Fault]:
    """Each fault that needs more than one setting to be seen; on the raw values."""
    if not raw.get("account_listen"):
        for name in _NAMES:
            if raw.get(name):
                yield (name,), "does nothing without account_listen"
    apps, client_ids = _apps_and_clients(raw)
    audience = raw.get("account_audience")
    if (audience is None) != (raw.get("account_scope") is None):
        yield ("account_audience",), "goes together with account_scope: say both, or none"
    if isinstance(audience, str) and audience in client_ids:
        yield ("account_audience",), "is a client's id; then an ID token would be for it, too"
    yield from _app_faults(raw, apps)


def _app_faults(raw: Mapping[str, Any], known: set[str]) -> Iterator[Fault]:
    taken = set()
    apps = raw.get("account_apps")
    for i, one in enumerate(apps if isinstance(apps, list) else []):
        if not isinstance(one, dict):
            continue
        if isinstance(one.get("app"), str) and one["app"] not in known:
            yield ("account_apps", i, "app"), "is the app of no client"
        if ("token" in one) == ("token_file" in one):
            yield ("account_apps", i, "token"), "say it or token_file, and not both"
        token = one.get("token")
        if isinstance(token, str):
            if token in taken:
                yield ("account_apps", i, "token"), "is that of another app"
            taken.add(token)


def shared_tokens(apps: Sequence[AccountApp]) -> Iterator[Fault]:
    """Tokens that are another's, too; also those of files, known once they have been read."""
    taken = set()
    for i, one in enumerate(apps):
        if one.the_token in taken:
            name = "token" if one.token is not None else "token_file"
            yield ("account_apps", i, name), "is that of another app"
        taken.add(one.the_token)


def _apps_and_clients(raw: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    issuers = raw.get("issuers")
    if not isinstance(issuers, list):
        issuers = [raw]  # the short form
    clients = []
    for issuer in issuers:
        found = issuer.get("clients", [issuer]) if isinstance(issuer, dict) else []
        clients += [
            one for one in (found if isinstance(found, list) else []) if isinstance(one, dict)
        ]
    ids = {one["client_id"] for one in clients if isinstance(one.get("client_id"), str)}
    apps = (one.get("app", one.get("client_id")) for one in clients)
    return {app for app in apps if isinstance(app, str)}, ids
