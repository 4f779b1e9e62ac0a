"""A transport which closes without a reset, so that the client can read the last response.

The kernel answers unread data with a reset, which can discard a response that the client has not
read yet. So the sending side is closed first; what the client still sends is read and discarded, up
to a time and size limit.
"""

import asyncio
from collections.abc import Callable
from typing import Any


def _nothing() -> None:
    """The close callback of a lost connection."""


class LingeringTransport:
    """``transport`` for a protocol. `close` calls ``closing``, which chooses between `linger` and
    `close_now`. While it lingers, `is_closing` is true: nothing more must be written."""

    def __init__(self, transport: asyncio.Transport, closing: Callable[[], None]) -> None:
        self._transport = transport
        self._closing = closing
        self._lingers = False
        # Used by every request, so without a method of ours in between.
        self.write = transport.write
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """Close on behalf of the protocol."""
        if self._lingers:
            self.close_now()
        elif not self._transport.is_closing():
            self._closing()

    def close_now(self) -> None:
        """Close both directions once everything written is sent."""
        self._transport.close()

    def lost(self) -> None:
        """The connection has ended. Release the protocol, which holds this transport: otherwise
        both stay in memory until the garbage collector finds them."""
        self._closing = _nothing

    def linger(self) -> None:
        """Close the sending side once everything written is sent."""
        if not self._transport.is_closing():
            self._lingers = True
            self.is_closing = lambda: True
            self._transport.write_eof()
