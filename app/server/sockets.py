"""Binds the addresses of the listeners, before anything else starts, and prints them."""

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence

from app.config.model import Settings
from app.server.paths import LOGOUT_PATH


class StartFault(Exception):
    """The service cannot start; the message is for the person at the terminal."""


@contextlib.contextmanager
def bound(address: tuple[str, int], setting: str) -> Iterator[socket.socket]:
    """Bind a listening address. Raises `StartFault`."""
    host, port = address
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, name = addresses[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartFault(f"{setting}: {host}:{port} cannot be used ({error.strerror})") from None
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(name)
        except OSError as error:
            raise StartFault(
                f"{setting}: {host}:{port} cannot be used ({error.strerror})"
            ) from None
        yield listener


@contextlib.contextmanager
def bound_for_users(settings: Settings) -> Iterator[list[socket.socket]]:
    """Bind the users' listening address, if there is one. Raises `StartFault`."""
    if settings.account_listen is None:
        yield []
        return
    with bound(settings.account_listen, "account_listen") as listener:
        yield [listener]


def _address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reached_at(listener: socket.socket) -> str:
    """The URL, without a path, at which this machine itself reaches it."""
    address = _address_of(listener)
    for everywhere, here in (("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")):
        if address.startswith(everywhere):
            address = here + address.removeprefix(everywhere)
    return f"http://{address}"


def print_addresses(
    public: socket.socket,
    admin: socket.socket,
    announce: Callable[[str], None],
    account: Sequence[socket.socket] = (),
    *,
    console: bool = False,
) -> None:
    """Announce the addresses to the person at the terminal."""
    announce(f"back-channel logout:      http://{_address_of(public)}{LOGOUT_PATH}")
    announce(f"health and operations:    http://{_address_of(admin)}/readyz")
    if console:
        announce(f"console:                  {reached_at(admin)}/console")
    for listener in account:
        announce(f"users' own sessions:      http://{_address_of(listener)}/account")
