"""One keep-alive connection of a provider; each way to get no answer has a name."""

import asyncio
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

REFUSED = "refused"
"""The connection was refused: the request was never sent."""
RESET = "reset"
"""The connection ended before its answer."""
TIMED_OUT = "timed_out"
HUNG_UP = "hung_up"
"""The client left before the answer, on purpose."""
GARBLED = "garbled"
"""Bytes that belong to no request of ours, or are no HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``status`` is 0 without an answer; then ``error`` is the reason."""

    status: int = 0
    reason: str = ""
    """The code at the head of ``error_description``; empty for 200."""
    error: str = ""


class Wire:
    """POSTs one token after another on one connection, and opens another when needed."""

    def __init__(self, url: str, patience: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._patience = patience
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, token: str, *, hang_up_after: float | None = None) -> Answer:
        """Send a token and wait for its answer, for at most ``hang_up_after`` seconds."""
        patience = self._patience if hang_up_after is None else hang_up_after
        sent = False
        try:
            async with asyncio.timeout(patience):
                reader, writer = await self._connected()
                sent = True
                writer.write(self._request(token))
                answer, last = await _read_answer(reader)
        except TimeoutError:
            answer, last = Answer(error=TIMED_OUT if hang_up_after is None else HUNG_UP), True
        except ValueError:
            answer, last = Answer(error=GARBLED), True
        except (OSError, EOFError):
            answer, last = Answer(error=RESET if sent else REFUSED), True
        if last:
            self.close()
        return answer

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None:
            reader, _ = self._streams
            # A connection that ends between requests is harmless. Unexpected bytes are the answer
            # to another request.
            if reader._buffer:  # type: ignore[attr-defined]
                raise ValueError("bytes before the request")
            if reader.at_eof() or reader.exception() is not None:
                self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        return self._streams

    def _request(self, token: str) -> bytes:
        body = f"logout_token={token}"
        return (
            "POST /backchannel-logout HTTP/1.1\r\n"
            f"Host: {self._host}:{self._port}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode("ascii")


async def _read_answer(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """The answer, and whether it is the last one. Raises ``ValueError`` if it is not HTTP."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
    version, status, *_ = head[0].split(" ")
    if version != "HTTP/1.1":
        raise ValueError(version)
    headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in head)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    reason = ""
    if body:
        reason = json.loads(body).get("error_description", "").partition(":")[0]
    return Answer(int(status), reason), headers.get("connection", "").lower() == "close"
