"""Limits what a client can take before its request is understood: connections, bytes and time.

The fast HTTP parser has no limits of its own. Without these, one connection with an endless header
line keeps the event loop busy for everybody, a body that arrives byte by byte is awaited forever,
and silent connections use up the process's file descriptors.

    Connections   the connections of one listener: which makes room, and when traffic has ceased
    LimitedHttp   one of them: HTTP with limits, closed without a reset
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from app.config.model import Settings
from app.server.lingering import LingeringTransport
from app.server.strict_http import BrokenRequest, StrictHttp
from app.server.uvicorn_internals import PatientFlow

# Each head has the first to itself; larger ones share the second. Real heads have less than 1 KiB;
# at full length each, the connections together could hold gigabytes.
OWN_HEAD_BYTES = 8 * 1024
SHARED_HEAD_BYTES = 16 << 20

# Each body has this to itself; real ones have 450 to 850 bytes. The number of connections bounds
# the sum.
OWN_BODY_BYTES = 8 * 1024

# What one request may send after its head, with chunk sizes and trailers. Applications accept much
# less; they never see trailers, of which the parser keeps a whole line.
MAX_BODY = 1 << 20

# Requests of one connection that queue for the responses to earlier ones. Real requests are larger
# than what is read at once divided by this.
MAX_PIPELINED = 1000

# At a stop, from our FIN to the close: for what a client sent before it saw the FIN.
LINGER_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of one listener and of each of its connections. Times are seconds."""

    connections: int
    head_bytes: int
    head_seconds: float
    body_seconds: float

    @classmethod
    def of(cls, settings: Settings, connections: int) -> "ConnectionLimits":
        return cls(
            connections,
            int(settings.largest_head),
            settings.head_timeout,
            settings.body_timeout,
        )


class Connections:
    """The open connections of one listener."""

    def __init__(
        self, limits: ConnectionLimits, on_shed: Callable[[], None] = lambda: None
    ) -> None:
        """``on_shed`` is called for each connection that has to make room."""
        self.limits = limits
        self._on_shed = on_shed
        self.stopping = False
        """Every response from now on has ``Connection: close``."""
        self.arrived_at = float("-inf")
        """When the last connection or byte arrived, in the event loop's time."""
        self.shared_head_bytes = 0
        self._open: set[LimitedHttp] = set()
        self._waiting: dict[LimitedHttp, None] = {}
        """Connections without a complete, unanswered request; the longest-waiting first."""

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: "LimitedHttp") -> None:
        """Add a new connection. Above the limit, the longest-waiting one makes room: an idle one,
        or one whose request makes no progress. If all others await a response, the new one does.
        """
        self._open.add(connection)
        self.waits(connection)
        if len(self._open) > self.limits.connections:
            oldest = next(iter(self._waiting))
            self.remove(oldest)
            oldest.make_room()
            self._on_shed()

    def waits(self, connection: "LimitedHttp") -> None:
        """It is idle from now on, or has sent a head and not yet its body."""
        if connection in self._open:
            self._waiting.pop(connection, None)
            self._waiting[connection] = None

    def works(self, connection: "LimitedHttp") -> None:
        """It has sent a complete request, which will be answered."""
        self._waiting.pop(connection, None)

    def remove(self, connection: "LimitedHttp") -> None:
        self._open.discard(connection)
        self._waiting.pop(connection, None)

    def stop(self) -> None:
        """Make each response from now on the last one of its connection."""
        self.stopping = True
        for connection in self._open:
            connection.end_after_answers()

    async def quiet(self, seconds: float, max_seconds: float) -> None:
        """Return when nothing has arrived for ``seconds``, or after ``max_seconds``."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (now := loop.time()) < began + max_seconds:
            silence = now - max(self.arrived_at, began)
            if silence >= seconds:
                return
            await asyncio.sleep(seconds - silence)


class LimitedHttp(StrictHttp):
    """`StrictHttp` with limits in bytes and time for each part of a request.

    A connection is in one of these states, each with its own limit and end:

        idle        keep_alive; or it makes room for a new one      FIN
        head        head_timeout, largest_head                      cut off
        body        body_timeout                                    cut off
                    `MAX_BODY`                                      400, lingering
        processing  the application's deadline
        answering   body_timeout if the client does not read        cut off
        lingering   the client's FIN, body_timeout, `MAX_BODY`      closed

    It lingers after a response that precedes the end of its request: the client can read that.
    """

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._all = connections
        self._limits = connections.limits
        self._head_bytes = 0
        self._shared_head_bytes = 0
        self._body_bytes = 0
        """Of this request; or discarded bytes, once nothing is parsed any more."""
        self._client_is_done = False
        self._lingering: LingeringTransport
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf
        self._due = math.inf
        """When this part of the request has taken too long, in the event loop's time."""
        self._politely = False
        """Whether it then ends with a FIN instead of being cut off."""
        self._write_timer: asyncio.TimerHandle | None = None

    # -- receiving ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._lingering = LingeringTransport(transport, self._close)
        super().connection_made(cast("asyncio.Transport", self._lingering))
        self.flow = PatientFlow(transport, self.pipeline)
        self._all.arrived_at = self.loop.time()
        self._end_in(self.timeout_keep_alive, politely=True)
        self._all.add(self)

    def data_received(self, data: bytes) -> None:
        self._all.arrived_at = self.loop.time()
        begins = self._in_head and self._head_bytes == 0
        while data and not self._stopped_reading:
            piece, data = data, b""
            if self._in_head:
                room = self._limits.head_bytes - self._head_bytes
                if len(piece) > room:
                    # The rest may be a body, which is known once this much is parsed.
                    piece, data = piece[:room], piece[room:]
                if not piece or not self._count_head(len(piece)):
                    self.transport.abort()
                    return
            elif not self._count_body(len(piece)):
                self.refuse_broken()
                return
            self.feed(piece)
        if data:
            self._discard(len(data))
        elif begins and self._head_bytes and not self._stopped_reading:  # usually complete at once
            self._end_in(self._limits.head_seconds)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client has sent everything; true keeps our side open for the response."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.response_started or not self._in_head:
            return None
        self._stopped_reading = self._client_is_done = True
        cycle.keep_alive = False
        return True

    def _count_head(self, size: int) -> bool:
        """Add ``size`` bytes to the head; whether it may be that large. The first bytes of a body
        may be among them."""
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

    def _count_body(self, size: int) -> bool:
        """Add ``size`` bytes to the body; whether it may be that large."""
        self._body_bytes += size
        return self._body_bytes <= MAX_BODY

    def head_complete(self) -> None:
        """The body follows, without a time limit until one is set."""
        self._in_head = False
        self._body_bytes = 0
        self._due = math.inf
        self._forget_head()

    def request_head(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise BrokenRequest
        self.head_complete()
        self._end_in(self._limits.body_seconds)
        self._all.waits(self)
        super().request_head()

    def request_end(self) -> None:
        super().request_end()
        if self._all.stopping:
            self.cycle.keep_alive = False
        self._body_bytes = 0
        self.request_complete()

    def request_complete(self) -> None:
        """A request is complete and unanswered."""
        self._in_head = True
        self._due = math.inf
        self._all.works(self)

    def idle(self) -> None:
        """The last request is answered. A head that has begun meanwhile keeps its deadline."""
        if not self._in_request and not self._head_bytes:
            self._end_in(self.timeout_keep_alive, politely=True)
        elif self._due == math.inf:  # it began in the segment that ended the request
            self._end_in(self._limits.head_seconds)
        self._all.waits(self)

    def on_response_complete(self) -> None:
        if not self.pipeline:
            self._all.waits(self)
        super().on_response_complete()

    # -- closing --------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        self._due = math.inf
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        self._forget_head()
        self._all.remove(self)
        super().connection_lost(exc)
        self._lingering.lost()

    def _close(self) -> None:
        """The last response is written. Close at once if the client has sent nothing else."""
        complete = (
            self._in_head and not self._broken and not (self._stopped_reading and self._body_bytes)
        )
        if complete or self._client_is_done:
            self._lingering.close_now()
            self._end_in(self._limits.body_seconds)  # if the client does not read
        else:
            self._linger(LINGER_SECONDS if self._all.stopping else self._limits.body_seconds)

    def _linger(self, seconds: float) -> None:
        if not self.transport.is_closing():
            self._stopped_reading, self._body_bytes = True, 0
            self._lingering.linger()
            self.pipeline.clear()
            self.flow.resume_reading()
            self._all.waits(self)
        self._end_in(seconds, politely=True)

    def _discard(self, size: int) -> None:
        if not self._count_body(size) and self.transport.is_closing():
            self.transport.close()

    def make_room(self) -> None:
        """Close the connection for a new one."""
        if self.transport.is_closing() or self._head_bytes or not self._in_head:
            self.transport.abort()
        else:
            self.transport.close()

    def end_after_answers(self) -> None:
        """Answer the requests in progress, then close."""
        for cycle in (self.cycle, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close, at once if no request is in progress. Called by uvicorn."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self._linger(LINGER_SECONDS)

    def pause_writing(self) -> None:
        """The client does not read our responses."""
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
        # A timer that fires early checks again: the end moves with each request, and a new timer
        # for each costs more than reading the head.
        if self._timer_due > self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._start_timer(self._due)

    def _start_timer(self, due: float) -> None:
        self._timer_due, self._timer = due, self.loop.call_at(due, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer_due, self._timer = math.inf, None
        if self.loop.time() < self._due:
            if self._due < math.inf:
                self._start_timer(self._due)
        elif self._politely:
            self.transport.close()
            self._end_in(self._limits.body_seconds)  # if the client does not read
        else:
            self.transport.abort()
