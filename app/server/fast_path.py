"""Takes complete `POST` requests to one path past ASGI.

A logout arrives in one piece or two, a kilobyte at most. For such a request the way through ASGI
(scope, cycle, events, two messages each way) and the framework costs as much as checking the token;
docs/performance.md has the measurement. Everything else goes through ASGI: other paths or methods,
a query, a body that is large or late, `Expect`, HTTP/1.0, pipelined requests, and all requests once
the server is stopping.

On one connection, a provider's requests have byte-identical heads whenever their tokens have the
same length. Such a head is not parsed again: see `_KnownHead`.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from starlette.responses import Response

from app.server.connection_limits import OWN_BODY_BYTES, OWN_HEAD_BYTES, LimitedHttp
from app.server.uvicorn_internals import STATUS_LINE

# Clients often send head and body separately. A body which takes longer is awaited by the endpoint,
# whose 1.8 s begin that much later.
PATIENCE = 0.02


@dataclass(frozen=True, slots=True)
class FastRoute:
    """``submit`` takes a `POST` to ``path``: media type, body, and a function for the response.

    It calls that function later, and never raises. Its last argument is the header `X-Request-Id`,
    where ``trusts_request_id``.
    """

    path: bytes
    submit: Callable[[str, bytes, Callable[[Response], None], str | None], None]
    trusts_request_id: bool = False


class _KnownHead(NamedTuple):
    """The head of a fast request that arrived in one piece, and what the parser found in it.

    Between two requests, identical bytes parse identically, including the length of the body. So a
    piece which begins with these bytes and has the same size is one complete request.
    """

    head: bytes
    size: int
    """Of head and body."""
    media_type: str
    request_id: str | None


class _NoEvent:
    """Stands in for the event that wakes an ASGI application: there is none to wake."""

    def set(self) -> None:
        """Nothing waits."""


class _FastCycle:
    """Stands in for `RequestResponseCycle` while a request is processed past ASGI.

    uvicorn asks it whether a pipelined request has to queue, and whether a stop has to wait.
    """

    __slots__ = ("disconnected", "keep_alive", "more_body", "response_complete")
    message_event: Any = _NoEvent()
    response_started = False

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False
        self.more_body = False


@functools.lru_cache(maxsize=4)  # nearly all are one shared 200, with the date of the same second
def _encode(
    response: Response, headers: tuple[tuple[bytes, bytes], ...], keep_alive: bool
) -> bytes:
    content = [STATUS_LINE[response.status_code]]
    for name, value in (*headers, *response.raw_headers):
        content += (name, b": ", value, b"\r\n")
    if not keep_alive:
        content.append(b"connection: close\r\n")
    content += (b"\r\n", bytes(response.body))
    return b"".join(content)


class FastPathProtocol(LimitedHttp):
    """`LimitedHttp` with a fast path for the complete requests of ``route``."""

    def __init__(self, *args: Any, route: FastRoute, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._route = route
        self._partial_body: bytes | None = None
        """The body so far of a fast request, whose ASGI application has not started."""
        self._patience: asyncio.TimerHandle | None = None
        self._media_type = ""
        self._request_id: str | None = None
        self._known: _KnownHead | None = None
        self._idle_piece: bytes | None = None
        """What was received last, if the connection was idle then."""

    def data_received(self, data: bytes) -> None:
        idle, known = self._is_idle(), self._known
        if idle and known and len(data) == known.size and data.startswith(known.head):
            self._all.arrived_at = self.loop.time()
            self._submit(known.media_type, data[len(known.head) :], known.request_id)
            return
        self._idle_piece = data if idle else None
        super().data_received(data)
        if self._partial_body is None:
            return
        if self.transport.is_closing():  # the rest was broken, and has been refused
            self._stop_waiting()
        elif len(self._partial_body) > OWN_BODY_BYTES:
            self._leave_to_asgi()
        elif self._patience is None:
            self._patience = self.loop.call_later(PATIENCE, self._leave_to_asgi)
            self._all.waits(self)

    def _is_idle(self) -> bool:
        """Whether everything is answered, and the next byte begins a request."""
        return (
            not self._in_request
            and not self._head_bytes  # an empty line before a request belongs to its head
            and (self.cycle is None or self.cycle.response_complete)
            and not self._all.stopping
            and not self._stopped_reading
            and self.timeout_keep_alive_task is None  # uvicorn's own timer, which `feed` cancels
            and not self.transport.is_closing()
        )

    def _learn(self, piece: bytes, body: bytes) -> None:
        """Remember the head if ``piece`` is one complete request."""
        head, end, rest = piece.partition(b"\r\n\r\n")
        if rest == body and len(piece) <= OWN_HEAD_BYTES:  # else it is chunked, or not alone
            self._known = _KnownHead(head + end, len(piece), self._media_type, self._request_id)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def request_head(self) -> None:
        if not self._is_fast():
            super().request_head()
            return
        self.head_complete()
        self._partial_body = b""
        # Now: a pipelined request in the same segment replaces the headers.
        self._media_type = _header(self.headers, b"content-type") or ""
        if self._route.trusts_request_id:
            self._request_id = _header(self.headers, b"x-request-id")

    def _is_fast(self) -> bool:
        parser = self.parser
        return (
            self.url == self._route.path
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not self.expect_100_continue
            and not self._all.stopping
            and (self.cycle is None or self.cycle.response_complete)
        )

    def _leave_to_asgi(self) -> None:
        """The rest of the body comes later, if ever: start an application that awaits it."""
        body = self._stop_waiting()
        super().request_head()
        if body:
            super().on_body(body)

    def _stop_waiting(self) -> bytes | None:
        body, self._partial_body = self._partial_body, None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        return body

    def on_body(self, body: bytes) -> None:
        if self._partial_body is None:
            super().on_body(body)
        else:
            self._partial_body += body  # usually to an empty body, which copies nothing

    def request_end(self) -> None:
        body = self._stop_waiting()
        if body is None:
            super().request_end()
            return
        if self._idle_piece is not None:
            self._learn(self._idle_piece, body)
        self._submit(self._media_type, body, self._request_id)

    def _submit(self, media_type: str, body: bytes, request_id: str | None) -> None:
        cycle: Any = _FastCycle(keep_alive=not self._all.stopping)
        self.cycle = cycle
        self.request_complete()
        respond = functools.partial(self._respond, cycle)
        self._route.submit(media_type, body, respond, request_id)

    def _respond(self, cycle: _FastCycle, response: Response) -> None:
        if cycle.disconnected or self.transport.is_closing():
            return
        if self.flow.write_paused:
            self._start(self._respond_when_read(cycle, response))
            return
        headers = tuple(self.server_state.default_headers)
        self.transport.write(_encode(response, headers, cycle.keep_alive))
        cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        if self.pipeline or not cycle.keep_alive:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.idle()

    async def _respond_when_read(self, cycle: _FastCycle, response: Response) -> None:
        """The client has not read the responses before this one."""
        await self.flow.drain()
        self._respond(cycle, response)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def _header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    for name, value in headers:
        if name == wanted:
            return value.decode("latin-1")
    return None
