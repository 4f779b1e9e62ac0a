"""Chooses free ports on 127.0.0.1 for the demo."""

import contextlib
import random
import socket
from dataclasses import dataclass, fields
from typing import Self

# Below the ephemeral ports, of which an outgoing connection could take one between the choice and
# the child's start.
_FREE = range(20000, 32000)


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the demo, with easy defaults."""

    receiver: int = 8000
    admin: int = 9000
    account: int = 9100
    redis: int = 6390
    provider: int = 8001
    shop: int = 8002

    @classmethod
    def choose(cls, *, friendly: bool) -> Self:
        """Free ports; with ``friendly`` the defaults if they are free."""
        # Each stays bound until all are chosen, so that none is chosen twice.
        with contextlib.ExitStack() as held:

            def is_free(port: int) -> bool:
                probe = held.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    return False
                return True

            def choose(default: int) -> int:
                if friendly and is_free(default):
                    return default
                return next(filter(is_free, random.sample(_FREE, 1000)))

            return cls(**{port.name: choose(getattr(cls(), port.name)) for port in fields(cls)})


def url(port: int) -> str:
    """The URL of a port. Always this host name, because cookies depend on it."""
    return f"http://127.0.0.1:{port}"
