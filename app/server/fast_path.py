"""The one hot request past ASGI: a whole `POST` to one path, answered from its body.

A logout comes in one piece or two, a kilobyte at most. For such a request the way through ASGI
(scope, cycle, events, two messages each way) and the framework costs as much as checking the token;
see docs/performance.md for the measurement. Everything else takes that way as before: another path
or method, a query, a body that is large or not there at once, `Expect`, HTTP/1.0, a request behind
another one, and everything from a stop on.

A provider's requests on one connection have the same head, byte by byte, whenever their tokens have
the same length. Such a head is not taken apart again: see `_KnownHead`.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from app.server.connection_limits import OWN_BODY_BYTES, OWN_HEAD_BYTES, LimitedHttp

# Head and body are often sent one behind the other. Whoever takes longer is waited for by the
# endpoint, whose 1.8 s begin so much later.
PATIENCE = 0.02


@dataclass(frozen=True, slots=True)
class FastRoute:
    """``submit`` takes a `POST` to ``path``: media type, body, and a function for the response.

    It calls that later, and never raises. Its last argument is the header `X-Request-Id`, where
    ``trusts_request_id``.
    """

    path: bytes
    submit: Callable[[str, bytes, Callable[[Response], None], str | None], None]
    trusts_request_id: bool = False


class _KnownHead(NamedTuple):
    """The head of a hot request that came in one piece, and what the parser has found in it.

    The parser stands between two requests then. Whatever begins with these bytes there, it would
    find the same in, the length of the body too: so a piece of the same size is one whole request.
    """

    head: bytes
    size: int
    """Of head and body."""
    media_type: str
    request_id: str | None


class _NoEvent:
    """For uvicorn, which wakes the application when a connection is lost; here nothing waits."""

    def set(self) -> None:
        """Nothing."""


class _Cycle:
    """What uvicorn asks of a request at work: a pipelined one waits for it, a stop too."""

    __slots__ = ("disconnected", "keep_alive", "more_body", "response_complete")
    message_event = _NoEvent()
    response_started = False

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False
        self.more_body = False


class _Spelled:
    """Answers as bytes. The last one is kept: nearly all are one and the same, for a second."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._bytes = b""

    def of(self, response: Response, state: ServerState, keep_alive: bool) -> bytes:
        # uvicorn makes a new list when the date changes. What the key holds stays alive, so that no
        # other object can be taken for it.
        headers, key = state.default_headers, self._key
        if key and key[0] is response and key[1] is headers and key[2] is keep_alive:
            return self._bytes
        content = [STATUS_LINE[response.status_code]]
        for name, value in (*headers, *response.raw_headers):
            content += (name, b": ", value, b"\r\n")
        if not keep_alive:
            content.append(b"connection: close\r\n")
        content += (b"\r\n", bytes(response.body))
        self._key, self._bytes = (response, headers, keep_alive), b"".join(content)
        return self._bytes


class FastPathProtocol(LimitedHttp):
    """`LimitedHttp`, with a short way for the requests of ``hot`` that come whole."""

    _spelled = _Spelled()  # one for all connections

    def __init__(self, *args: Any, hot: FastRoute, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hot = hot
        self._held: bytes | None = None
        """The body of a request that may come whole; its application has not begun."""
        self._patience: asyncio.TimerHandle | None = None
        self._media_type = ""
        self._request_id: str | None = None
        self._known: _KnownHead | None = None
        self._between = True
        """The parser stands between two requests: nothing has come, or a hot one was the last."""
        self._taken: bytes | None = None
        """The body of the last request that came whole, until its head is known."""

    def data_received(self, data: bytes) -> None:
        rests = self._rests()
        known = self._known
        if rests and known and len(data) == known.size and data.startswith(known.head):
            self._all.arrived_at = self.loop.time()
            self._begin(known.media_type, data[len(known.head) :], known.request_id)
            return
        super().data_received(data)
        if self._taken is not None:
            if rests and self._between:
                self._learn(data, self._taken)
            self._taken = None
        if self._held is None:
            return
        if self.transport.is_closing():  # the rest was broken, and uvicorn has refused it
            self._stop_waiting()
        elif len(self._held) > OWN_BODY_BYTES:
            self._let_go()
        elif self._patience is None:
            self._patience = self.loop.call_later(PATIENCE, self._let_go)
            self._all.waits(self)

    def _rests(self) -> bool:
        """Whether all that came has been answered, and the next byte begins a request."""
        return (
            self._between
            and not self._head_bytes  # an empty line before a request is of its head
            and (self.cycle is None or self.cycle.response_complete)
            and not self._all.stopping
            and not self._deaf
            and self.timeout_keep_alive_task is None  # uvicorn's own, which it stops
            and not self.transport.is_closing()
        )

    def _learn(self, data: bytes, body: bytes) -> None:
        """``data`` came while the connection rested, and brought ``body`` at least."""
        head, end, rest = data.partition(b"\r\n\r\n")
        if rest == body and len(data) <= OWN_HEAD_BYTES:  # else it came in chunks, or with others
            self._known = _KnownHead(head + end, len(data), self._media_type, self._request_id)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._between = False
        # The rest is for ASGI: see `_go_by_asgi`.
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._hosts = 0

    def request_head(self) -> None:
        if self._is_hot():
            self.head_complete()
            self._stop_timer()
            self._held = b""
            # Now: a request that comes behind it in the same segment replaces the headers.
            self._media_type = _header(self.headers, b"content-type") or ""
            if self._hot.trusts_request_id:
                self._request_id = _header(self.headers, b"x-request-id")
        else:
            self._go_by_asgi()

    def _go_by_asgi(self) -> None:
        """All that uvicorn does of a head, from the beginning."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # which are the scope's
        super().request_head()

    def _is_hot(self) -> bool:
        parser = self.parser
        return (
            self.url == self._hot.path
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not self.expect_100_continue
            and not self._all.stopping
            and (self.cycle is None or self.cycle.response_complete)
        )

    def _let_go(self) -> None:
        """The rest of the body comes later, if ever: an application that waits for it."""
        body = self._stop_waiting()
        self._go_by_asgi()
        if body:
            super().on_body(body)

    def _stop_waiting(self) -> bytes | None:
        body, self._held = self._held, None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        return body

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
        else:
            self._held += body  # mostly to nothing, and then it is not copied

    def request_end(self) -> None:
        body = self._stop_waiting()
        if body is None:
            super().request_end()
            return
        self._taken, self._between = body, True
        self._begin(self._media_type, body, self._request_id)

    def _begin(self, media_type: str, body: bytes, request_id: str | None) -> None:
        cycle: Any = _Cycle(keep_alive=not self._all.stopping)
        self.cycle = cycle
        self.is_at_work()
        respond = functools.partial(self._respond, cycle)
        self._hot.submit(media_type, body, respond, request_id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _respond(self, cycle: _Cycle, response: Response) -> None:
        if cycle.disconnected or self.transport.is_closing():
            return
        if self.flow.write_paused:
            self._spawn(self._respond_when_read(cycle, response))
            return
        self.transport.write(self._spelled.of(response, self.server_state, cycle.keep_alive))
        cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        if self.pipeline or not cycle.keep_alive:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.is_idle()

    async def _respond_when_read(self, cycle: _Cycle, response: Response) -> None:
        """The client has not read the answers before this one."""
        await self.flow.drain()
        self._respond(cycle, response)


def _header(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    for name, value in headers:
        if name == wanted:
            return value.decode("latin-1")
    return None
