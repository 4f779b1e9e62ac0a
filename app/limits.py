"""What a client may take of us before its request is understood: bytes and time.

The fast HTTP parser has no limits of its own. Without these, one connection with an endless
header line keeps the event loop busy for everybody, and connections that say nothing use up
the process's files.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Real requests have less than 1 KiB of headers. Counted by what arrives while they are not
# complete, so that the first bytes of a body of 64 KiB may be among it.
LARGEST_HEAD = 128 * 1024

# From a head's first byte to its last. A provider sends it at once; this is for a network that
# is nearly down. Until the first byte a connection may be silent for the keep-alive time:
# load balancers open some in advance.
HEAD_SECONDS = 20.0


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's HTTP, with a limit for the head of each request."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._end_in(self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._head_bytes == 0:
                self._end_in(HEAD_SECONDS)
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD:
                self.transport.abort()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        # From here on the keep-alive time counts, until the next request begins.
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _end_in(self, seconds: float) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
