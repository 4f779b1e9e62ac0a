"""What the provider is told (a TOML file), and the users that it knows."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A registered relying party; the members have their names of OpenID Connect."""

    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    backchannel_logout_uri: str = ""
    post_logout_redirect_uri: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who can sign in. ``id`` is the ``sub`` of tokens."""

    id: str
    name: str


# The bar is what Auth0's user ids have, too: it must be quoted in the paths of the session API.
USERS = (User("demo|alice", "Alice"), User("demo|bob", "Bob"), User("demo|carol", "Carol"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The issuer is the address on loopback, also where ``host`` is a container's."""

    port: int
    host: str = "127.0.0.1"
    api_token: str = field(repr=False)
    """The bearer token of the session API."""
    clients: tuple[Client, ...]

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, client_id: str | None) -> Client | None:
        return next((one for one in self.clients if one.client_id == client_id), None)


class ConfigFault(Exception):
    """The file can not be used; the message says why."""


def load(path: Path) -> Config:
    """Read ``port``, ``host``, ``api_token`` and the ``[[clients]]``. Raises `ConfigFault`."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
        clients = tuple(Client(**client) for client in raw.pop("clients"))
        return Config(clients=clients, **raw)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigFault(f"{path}: {error}") from None


def user(user_id: str | None) -> User | None:
    """The user with this id, if there is one."""
    return next((one for one in USERS if one.id == user_id), None)
