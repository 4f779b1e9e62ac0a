"""What a client may take of us before its request is understood: connections, bytes and time.

The fast HTTP parser has no limits of its own. Without these, one connection with an endless
header line keeps the event loop busy for everybody, a body that comes byte by byte is waited
for without end, and connections that say nothing use up the process's files.

    Connections   those of one listener; who makes room, and when nothing comes any more
    LimitedHttp   one of them: uvicorn's HTTP with limits, and with an end without a reset
"""

import asyncio
import math
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Any, cast

from uvicorn.protocols.http.flow_control import FlowControl

from app.config.model import Settings
from app.server.lingering import LingeringTransport
from app.server.strict_http import BrokenRequest, StrictHttp

# Real requests have 10 to 30; each costs a hundred bytes here, however short it is.
MOST_HEADERS = 200

# What every head has for itself, and what larger ones share. Real ones have less than 1 KiB;
# at the full length each, the connections could hold gigabytes.
OWN_HEAD_BYTES = 8 * 1024
SHARED_HEAD_BYTES = 16 << 20

# What every body has for itself; real ones have 450 to 850 bytes. Together that is bounded by
# the number of connections.
OWN_BODY_BYTES = 8 * 1024

# What one request may have behind its head, chunk sizes and trailers included. Each application
# takes much less; nothing of a trailer is given to one, and the parser keeps a whole line of it.
LARGEST_BODY = 1 << 20

# Requests of one connection that wait for the answers to those before them. Real ones are larger
# than what is read at once divided by this.
MOST_PIPELINED = 1000

# At a stop, from our FIN to the end: what a client sent before it saw the FIN.
LINGER = 0.05


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """For each connection of a listener. Times are seconds."""

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


class _Flow(FlowControl):
    """uvicorn's, which reads on with each answer: here, with the answer to all that was read. Else
    requests come faster than they are answered, and each holds memory."""

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


class LimitedHttp(StrictHttp):
    """`StrictHttp`, with limits in bytes and time for each part of a request.

    A connection is in one of these states, each with its own end:

        idle        keep_alive; or it makes room for a newcomer     FIN
        head        head_timeout, largest_head                      cut off
        body        body_timeout                                    cut off
                    `LARGEST_BODY`                                  400, lingering
        at work     the application's deadline
        answering   body_timeout where the client does not read     cut off
        lingering   the client's FIN, body_timeout, `LARGEST_BODY`  closed

    It lingers after an answer that came before the end of its request: the client can read it.
    """

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._all = connections
        self._limits = connections.limits
        self._in_head = True
        self._head_bytes = 0
        self._shared_head_bytes = 0
        self._body_bytes = 0
        """Of this request; or what was thrown away since nothing is parsed any more."""
        self._client_is_done = False
        self._lingering: LingeringTransport
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        self._due = math.inf
        """When this part of the request has taken too long, in the event loop's time."""
        self._politely = False
        """Whether it then ends with a FIN, and is not cut off."""
        self._write_timer: asyncio.TimerHandle | None = None

    # -- what comes -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._lingering = LingeringTransport(transport, self._close)
        super().connection_made(cast("asyncio.Transport", self._lingering))
        self.flow = _Flow(transport, self.pipeline)
        self._all.arrived_at = self.loop.time()
        self._end_in(self.timeout_keep_alive, politely=True)
        self._all.add(self)

    def data_received(self, data: bytes) -> None:
        self._all.arrived_at = self.loop.time()
        begins = self._in_head and self._head_bytes == 0
        while data and not self._deaf:
            piece, data = data, b""
            if self._in_head:
                room = self._limits.head_bytes - self._head_bytes
                if len(piece) > room:
                    # The rest may be a body: that is known when this much has been parsed.
                    piece, data = piece[:room], piece[room:]
                if not piece or not self._take_head(len(piece)):
                    self.transport.abort()
                    return
            elif not self._take_body(len(piece)):
                self.refuse_broken()
                return
            self.feed(piece)
        if data:
            self._throw_away(len(data))
        elif begins and self._head_bytes and not self._deaf:  # most are complete at once
            self._end_in(self._limits.head_seconds)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client has sent all that it will; true keeps our side open for the answer."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.response_started or not self._in_head:
            return None
        self._deaf = self._client_is_done = True
        cycle.keep_alive = False
        return True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: no part of the head (RFC 9110, 6.5.1)
        if len(self.headers) >= MOST_HEADERS:
            raise BrokenRequest
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

    def _take_body(self, size: int) -> bool:
        """Count ``size`` bytes to the body; whether it may be that large."""
        self._body_bytes += size
        return self._body_bytes <= LARGEST_BODY

    def head_complete(self) -> None:
        self._in_head = False
        self._body_bytes = 0
        self._forget_head()

    def request_head(self) -> None:
        if len(self.pipeline) >= MOST_PIPELINED:
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
        self._lingering.lost()

    def _close(self) -> None:
        """The last answer is written. Close at once where the client has sent nothing else."""
        complete = self._in_head and not self._broken and not (self._deaf and self._body_bytes)
        if complete or self._client_is_done:
            self._lingering.close_now()
            self._end_in(self._limits.body_seconds)  # where the client does not read
        else:
            self._linger(LINGER if self._all.stopping else self._limits.body_seconds)

    def _linger(self, seconds: float) -> None:
        if not self.transport.is_closing():
            self._deaf, self._body_bytes = True, 0
            self._lingering.linger()
            self.pipeline.clear()
            self.flow.resume_reading()
            self._all.waits(self)
        self._end_in(seconds, politely=True)

    def _throw_away(self, size: int) -> None:
        if not self._take_body(size) and self.transport.is_closing():
            self.transport.close()

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
        else:
            self._linger(LINGER)

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
            self._end_in(self._limits.body_seconds)  # where the client does not read
        else:
            self.transport.abort()

    def _stop_timer(self) -> None:
        self._due = math.inf
