"""The users' own sessions: the settings that begin with ``account_``.

By default the listener is off, no app has a credential, and no access token is accepted.
"""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from app.config.base import Table
from app.config.secrets import SecretFile
from app.config.types import AppName, Form, is_http_url, printable_token

# Long enough that failed attempts need no limit: browsers and apps share addresses.
_MIN_TOKEN_LENGTH = 32


def _token(value: SecretStr) -> SecretStr:
    if not _MIN_TOKEN_LENGTH <= len(value) <= 1024:
        raise ValueError(f"has {_MIN_TOKEN_LENGTH} to 1024 characters")
    return printable_token(value)


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if not is_http_url(value) or parts.path or value != value.lower():
        raise ValueError("an origin is http(s)://host[:port], in lower case, without a path")
    return value


ServiceToken = Annotated[SecretStr, AfterValidator(_token), Form("text, 32 to 1024 characters")]
Origin = Annotated[str, Field(max_length=1024), AfterValidator(_origin), Form("origin")]
Audience = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^\S+$")]
Scope = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$")]


class AccountApp(Table):
    """A relying app whose backend may ask for its users' sessions: ``[[account_apps]]``."""

    app: AppName
    """The app of one of the clients."""
    token: ServiceToken | None = None
    """The app's credential. Set either this or ``token_file``."""
    token_file: Annotated[SecretFile, AfterValidator(_token)] | None = None
    """A file with the token, read at the start."""

    @property
    def effective_token(self) -> str:
        token = self.token or self.token_file
        return token.get_secret_value() if token else ""
