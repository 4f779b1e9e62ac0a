"""A transport which closes without a reset, so that the client can read its last answer.

A kernel answers data that nobody reads with a reset, and a reset may discard an answer that the
client has not read yet. So the sending side is closed first; what the client is still sending is
read and thrown away, for a limited time and up to a limited size.
"""

import asyncio
from collections.abc import Callable
from typing import Any


def _nothing() -> None:
    """What is left to do at the end of a connection that is lost."""


class LingeringTransport:
    """``transport`` for a protocol. `close` calls ``closing``, which decides between `linger` and
    `close_now`. While it lingers `is_closing` is true: nothing more is to be written."""

    def __init__(self, transport: asyncio.Transport, closing: Callable[[], None]) -> None:
        self._transport = transport
        self._closing = closing
        self._lingers = False
        # Called for each request: not by way of a method of ours.
        self.write = transport.write
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """The protocol's end of the connection."""
        if self._lingers:
            self.close_now()
        elif not self._transport.is_closing():
            self._closing()

    def close_now(self) -> None:
        """Close both directions, when all is sent that was written."""
        self._transport.close()

    def lost(self) -> None:
        """The connection has ended. Let go of the protocol, which holds this transport: else the
        two stay in memory until the garbage collector finds them."""
        self._closing = _nothing

    def linger(self) -> None:
        """Close the sending side, when all is sent that was written."""
        if not self._transport.is_closing():
            self._lingers = True
            self.is_closing = lambda: True
            self._transport.write_eof()
