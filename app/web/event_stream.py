"""Server-sent events, as the admin API, the console and the users' listener stream them.

A comment every `HEARTBEAT_SECONDS` keeps the connection open, a stream ends when the service
begins to stop, and the number of concurrent streams is limited.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from starlette.responses import Response, StreamingResponse

from app.background import end
from app.web.errors import ApiError

# Shorter than the idle timeouts of proxies; the shortest common one is 30 s.
HEARTBEAT_SECONDS = 15.0

# How late a stream notices that the service is stopping.
_STOP_SECONDS = 0.25

_HEADERS = {"X-Accel-Buffering": "no"}  # nginx would collect a page of events before sending any


def event(name: str, data: str, event_id: str | None = None) -> str:
    """One event on the wire. ``data`` is a single line."""
    identified = "" if event_id is None else f"id: {event_id}\n"
    return f"event: {name}\n{identified}data: {data}\n\n"


def comment(text: str) -> str:
    """A line that clients ignore."""
    return f": {text}\n\n"


class EventStreams:
    """The streams of one kind, of which at most ``max_streams`` are open at a time.

    ``stopping`` returns whether the service has been told to stop: the streams end, and their
    clients reconnect to another replica.
    """

    def __init__(self, stopping: Callable[[], bool], *, max_streams: float = math.inf) -> None:
        self._stopping = stopping
        self._max_streams = max_streams
        self._open = 0

    def check_room(self, sentence: str, retry_after: float) -> None:
        """Raise `ApiError` (503) while no further stream may be opened."""
        if self._open >= self._max_streams:
            raise ApiError(503, "too_many_listeners", sentence, retry_after=retry_after)

    def response(self, chunks: AsyncGenerator[str]) -> Response:
        """Stream ``chunks``, each made of whole events, until they end."""
        return StreamingResponse(
            self._send(chunks), headers=_HEADERS, media_type="text/event-stream"
        )

    async def _send(self, chunks: AsyncGenerator[str]) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        self._open += 1
        upcoming, sent_at = asyncio.ensure_future(anext(chunks, None)), loop.time()
        try:
            while not self._stopping():
                await asyncio.wait({upcoming}, timeout=_STOP_SECONDS)
                if upcoming.done():
                    if (chunk := upcoming.result()) is None:
                        return
                    yield chunk
                    upcoming, sent_at = asyncio.ensure_future(anext(chunks, None)), loop.time()
                elif loop.time() - sent_at >= HEARTBEAT_SECONDS:
                    yield comment("still here")
                    sent_at = loop.time()
        finally:
            self._open -= 1
            await end([upcoming])
            with contextlib.suppress(Exception):
                await chunks.aclose()
