"""Which ports the demo takes on 127.0.0.1, so that it runs beside anything."""

import contextlib
import random
import socket
from dataclasses import dataclass, fields
from typing import Self

# Below the ports that operating systems give to outgoing connections: such a connection could
# take one between the choice and the child's start.
_FREE = range(20000, 32000)


@dataclass(frozen=True, slots=True)
class Ports:
    """The defaults are those that people remember."""

    receiver: int = 8000
    admin: int = 9000
    account: int = 9100
    redis: int = 6390
    provider: int = 8001
    shop: int = 8002

    @classmethod
    def choose(cls, *, friendly: bool) -> Self:
        """Free ports; with ``friendly`` the defaults, as far as they are free."""
        # All are held until all are chosen, so that none is chosen twice.
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

            return cls(**{one.name: choose(getattr(cls(), one.name)) for one in fields(cls)})


def url(port: int) -> str:
    """The address of a port, as it is written everywhere: cookies tell names apart."""
    return f"http://127.0.0.1:{port}"
