"""The settings of the provider (a TOML file), and its users."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A registered client, with OpenID Connect's names."""

    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    backchannel_logout_uri: str = ""
    post_logout_redirect_uri: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """A user. ``id`` is the ``sub`` of tokens."""

    id: str
    name: str


# With a bar, like Auth0's user ids: it must be quoted in the paths of the session API.
USERS = (User("demo|alice", "Alice"), User("demo|bob", "Bob"), User("demo|carol", "Carol"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings. The issuer is the address on loopback, even if ``host`` is a container's."""

    port: int
    host: str = "127.0.0.1"
    api_token: str = field(repr=False)
    """The bearer token of the session API."""
    clients: tuple[Client, ...]

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, client_id: str | None) -> Client | None:
        return next((client for client in self.clients if client.client_id == client_id), None)


class ConfigFault(Exception):
    """The file is invalid; the message has the reason."""


def load(path: Path) -> Config:
    """Reads ``port``, ``host``, ``api_token`` and the ``[[clients]]``. Raises `ConfigFault`."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
        clients = tuple(Client(**client) for client in raw.pop("clients"))
        return Config(clients=clients, **raw)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigFault(f"{path}: {error}") from None


def user(user_id: str | None) -> User | None:
    """The user with this id, or None."""
    return next((user for user in USERS if user.id == user_id), None)
