"""The one connection on which a listener says what it has handled, and waits for what comes.

Both go out together, and each answer is there as soon as Redis has given it: so what was handled is
told at once, and no round trip for that is in the way of the next event. The library's pipeline
has its answers all at once, when the last one is there, and costs several times as much for each
command: until Python 3.12 its deadlines are a task for each send and a timer for each answer.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import redis
import redis.asyncio

from backchannel_logout.redis import internals

Command = tuple[str | bytes | int | float, ...]


class Pipeline:
    """Sends commands and reads their answers, in their order, as they come from the server.

    Sets no deadline: the caller has one for all. Whoever does not read an answer to its end, also
    because of a cancellation, must `close`: the next one would read it as its own. Every method
    raises what the library raises.
    """

    def __init__(self, connection: redis.asyncio.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, pool: redis.asyncio.ConnectionPool) -> "Pipeline":
        """Connect, as the pool's connections do: none of its own, for this one is always in use."""
        connection: Any = pool.make_connection()
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        connection.socket_timeout = None
        return cls(connection)

    @property
    def is_open(self) -> bool:
        """Whether nothing has ended it, as far as is known."""
        return bool(self._connection.is_connected)

    async def is_fit(self) -> bool:
        """Whether it can take the next commands: a server, or something on the way to it, ends what
        has been silent for long, such as while a handler works."""
        return self.is_open and not await internals.has_something_to_read(self._connection)

    async def send(self, commands: Sequence[Command]) -> None:
        """Send them in one go."""
        if not self._connection.is_connected:  # the library would make another one
            raise redis.ConnectionError("the connection has ended")
        await self._connection.send_packed_command(
            b"".join(map(_pack, commands)), check_health=False
        )

    async def receive(self, count: int) -> list[Any]:
        """The next ``count`` answers; what Redis refuses is an exception in its place."""
        answers: list[Any] = []
        for _ in range(count):
            try:
                answers.append(await self._connection.read_response())
            except redis.ResponseError as refused:
                answers.append(refused)
        return answers

    async def close(self) -> None:
        """Close it at once, whatever is on the way."""
        await self._connection.disconnect(nowait=True)


def spelled(command: Command) -> bytes:
    """A command as it is sent."""
    parts = [b"*%d\r\n" % len(command)]
    for one in command:
        text = one if isinstance(one, bytes) else str(one).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(parts)


_pack: Callable[[Any], bytes] = spelled
with contextlib.suppress(ImportError):
    from hiredis import pack_command as _pack  # the same; the library, too, takes it where it is
