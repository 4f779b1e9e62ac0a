"""What a client may take of us before its request is understood: connections, bytes and time.

The fast HTTP parser has no limits of its own. Without these, one connection with an endless
header line keeps the event loop busy for everybody, a body that comes byte by byte is waited
for without end, and connections that say nothing use up the process's files.

    Connections   those of one listener; who makes room, and when nothing comes any more
    LimitedHttp   one of them: uvicorn's HTTP with limits, and with an end without a reset
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.settings import Settings

# Real requests have 10 to 30; each costs a hundred bytes here, however short it is.
MOST_HEADERS = 200

# What every head has for itself, and what larger ones share. Real ones have less than 1 KiB;
# at the full length each, the connections could hold gigabytes.
OWN_HEAD_BYTES = 8 * 1024
SHARED_HEAD_BYTES = 16 << 20

# From our FIN to the end: what a client sent before it saw the FIN is read and thrown away,
# for data that nobody reads turns a close into a reset.
LINGER = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """For each connection of a listener. Times are seconds."""

    connections: int
    head_bytes: int
    head_seconds: float
    body_seconds: float

    @classmethod
    def of(cls, settings: Settings, connections: int) -> "Limits":
        return cls(
            connections,
            int(settings.largest_head),
            settings.head_timeout,
            settings.body_timeout,
        )


class Connections:
    """The open connections of one listener."""

    def __init__(self, limits: Limits, on_shed: Callable[[], None] = lambda: None) -> None:
        """``on_shed`` is called for each that had to make room."""
        self.limits = limits
        self._on_shed = on_shed
        self.stopping = False
        """Every answer from here on says ``Connection: close``."""
        self.arrived_at = float("-inf")
        """When a connection or a byte came last, in the event loop's time."""
        self.shared_head_bytes = 0
        self._open: set[LimitedHttp] = set()
        self._waiting: dict[LimitedHttp, None] = {}
        """Those without a complete request at work, the one that waits for longest first."""

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: "LimitedHttp") -> None:
        """Take a newcomer in. Above the limit the one that waits for longest makes room: an
        idle one, or one that does not get on with its request. Where all others have complete
        requests at work, that is the newcomer."""
        self._open.add(connection)
        self.waits(connection)
        if len(self._open) > self.limits.connections:
            oldest = next(iter(self._waiting))
            self.remove(oldest)
            oldest.make_room()
            self._on_shed()

    def waits(self, connection: "LimitedHttp") -> None:
        """It is idle from now on, or its head has just come and its body has not."""
        if connection in self._open:
            self._waiting.pop(connection, None)
            self._waiting[connection] = None

    def works(self, connection: "LimitedHttp") -> None:
        """A request of it is complete and will be answered."""
        self._waiting.pop(connection, None)

    def remove(self, connection: "LimitedHttp") -> None:
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def stop(self) -> None:
        """From here on each answer is the last one of its connection."""
        self.stopping = True
        for connection in self._open:
            connection.end_after_answers()

    async def quiet(self, seconds: float, at_most: float) -> None:
        """Return when nothing has come for ``seconds``, and after ``at_most`` in any case."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (now := loop.time()) < began + at_most:
            still = now - max(self.arrived_at, began)
            if still >= seconds:
                return
            await asyncio.sleep(seconds - still)


class TooManyHeaders(Exception):
    """More than `MOST_HEADERS` in one request."""


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's HTTP, with limits in bytes and time for each part of a request.

    A connection is in one of these states, each with its own end:

        idle        keep_alive; or it makes room for a newcomer     FIN
        head        head_timeout, largest_head                      cut off
        body        body_timeout, also after an early answer        cut off
        at work     the application's deadline
        answering   body_timeout where the client does not read     cut off
    """

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._all = connections
        self._limits = connections.limits
        self._in_head = True
        self._head_bytes = 0
        self._shared_head_bytes = 0
        self._half_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        self._due = math.inf
        """When this part of the request has taken too long, in the event loop's time."""
        self._politely = False
        """Whether it then ends with a FIN, and is not cut off."""
        self._write_timer: asyncio.TimerHandle | None = None

    # -- what comes -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._all.arrived_at = self.loop.time()
        self._end_in(self.timeout_keep_alive, politely=True)
        self._all.add(self)

    def data_received(self, data: bytes) -> None:
        self._all.arrived_at = self.loop.time()
        if self._half_closed:
            return
        begins = self._in_head and self._head_bytes == 0
        if self._in_head and not self._take_head(len(data)):
            self.transport.abort()
            return
        super().data_received(data)
        if begins and self._head_bytes:  # else it is complete: most come in one piece
            self._end_in(self._limits.head_seconds)

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MOST_HEADERS:
            raise TooManyHeaders  # the parser's fault for uvicorn: 400, and the end
        super().on_header(name, value)

    def _take_head(self, size: int) -> bool:
        """Count ``size`` bytes to the head; whether it may be that large. The first bytes of a
        body may be among them."""
        self._head_bytes += size
        shared = self._head_bytes - OWN_HEAD_BYTES
        if shared <= 0:
            return True
        self._all.shared_head_bytes += shared - self._shared_head_bytes
        self._shared_head_bytes = shared
        return (
            self._head_bytes <= self._limits.head_bytes
            and self._all.shared_head_bytes <= SHARED_HEAD_BYTES
        )

    def _forget_head(self) -> None:
        self._all.shared_head_bytes -= self._shared_head_bytes
        self._head_bytes = self._shared_head_bytes = 0

    def head_complete(self) -> None:
        self._in_head = False
        self._forget_head()

    def on_headers_complete(self) -> None:
        self.head_complete()
        self._end_in(self._limits.body_seconds)
        self._all.waits(self)
        super().on_headers_complete()
        if self._all.stopping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self.cycle.response_complete:
            # Answered before its end; uvicorn's own timer for that has been stopped meanwhile.
            self._in_head = True
            self.is_idle()
        else:
            self.is_at_work()

    def is_at_work(self) -> None:
        """A request is complete, and has no answer yet."""
        self._in_head = True
        self._due = math.inf
        self._all.works(self)

    def is_idle(self) -> None:
        """The last request has its answer."""
        self._end_in(self.timeout_keep_alive, politely=True)
        self._all.waits(self)

    def on_response_complete(self) -> None:
        if not self.pipeline:
            self._all.waits(self)
        super().on_response_complete()

    # -- its end --------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        self._due = math.inf
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        self._forget_head()
        self._all.remove(self)
        super().connection_lost(exc)

    def make_room(self) -> None:
        """Give the place to a newcomer."""
        if self.transport.is_closing() or self._head_bytes or not self._in_head:
            self.transport.abort()
        else:
            self.transport.close()

    def end_after_answers(self) -> None:
        """What is at work is answered; then the connection ends."""
        for cycle in (self.cycle, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.keep_alive = False

    def shutdown(self) -> None:
        """uvicorn's word for the end: at once where no request is at work."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif not self.transport.is_closing():
            self._half_closed = True
            self.transport.write_eof()
            self.loop.call_later(LINGER, self.transport.close)

    def pause_writing(self) -> None:
        """The client does not read our answers."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(
                self._limits.body_seconds, self.transport.abort
            )

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _end_in(self, seconds: float, *, politely: bool = False) -> None:
        self._due, self._politely = self.loop.time() + seconds, politely
        # A timer that rings earlier looks again: the end moves on with each request, and a new
        # timer for each costs more than reading the head.
        if self._rings_at > self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._ring_at(self._due)

    def _ring_at(self, due: float) -> None:
        self._rings_at, self._timer = due, self.loop.call_at(due, self._ring)

    def _ring(self) -> None:
        self._rings_at, self._timer = math.inf, None
        if self.loop.time() < self._due:
            if self._due < math.inf:
                self._ring_at(self._due)
        elif self._politely:
            self.transport.close()
        else:
            self.transport.abort()

    def _stop_timer(self) -> None:
        self._due = math.inf
