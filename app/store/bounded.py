"""Connections that end an answer which is too large, whoever has written what is asked for.

Apps write to Redis too, and one value may have 512 MB: an answer is in memory until it is whole.
"""

from typing import Any

from redis._parsers.hiredis import _AsyncHiredisParser
from redis.exceptions import ConnectionError as RedisConnectionError

MOST_BYTES = 16 << 20
"""Of one answer: five hundred entries of a stream are some 2 MB at most."""


class AnswerTooLarge(RedisConnectionError):
    """An answer was larger than `MOST_BYTES`; its connection is gone."""


class BoundedParser(_AsyncHiredisParser):
    """The library's, which counts what has come of an answer so far."""

    __slots__ = ("_came",)

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size=socket_read_size)
        self._came = 0

    async def read_from_socket(self) -> Any:
        stream, reader = self._stream, self._reader
        buffer = await stream.read(self._read_size) if stream is not None else b""
        if not buffer or reader is None:
            raise RedisConnectionError("Connection closed by server.")
        self._came += len(buffer)
        if self._came > MOST_BYTES:
            self._reader = None  # with all that it holds; the next connection makes another one
            raise AnswerTooLarge("an answer is too large")
        reader.feed(buffer)
        return True

    async def read_response(
        self, disable_decoding: bool = False, push_request: bool = False
    ) -> Any:
        try:
            return await super().read_response(disable_decoding, push_request)
        finally:
            self._came = 0
