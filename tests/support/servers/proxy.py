"""A TCP proxy that misbehaves: it is slow or silent, or resets connections within a command."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Self

from tests.support.servers.redis_server import free_port

_CHUNK = 64 * 1024


def _keep_none(_: bytes) -> bool:
    return False


class Proxy:
    """Forwards connections to ``target``, a port on this machine.

    ``delay`` (seconds, each way) and ``breaking`` (the share of chunks in which the connection is
    reset) can be set at any time.
    """

    def __init__(self, target: int, random: Random) -> None:
        self.port = free_port()
        self.delay = 0.0
        self.breaking = 0.0
        self.broken = 0
        """The number of connections that were reset within a command."""
        self._target = target
        self._random = random
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._keep: Callable[[bytes], bool] | None = None
        self._delivers_late = False
        self._healed = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def fall_silent(
        self, keep: Callable[[bytes], bool] = _keep_none, *, late: bool = False
    ) -> None:
        """Forward nothing more and close nothing, so that the other side seems to hang.

        Connections whose first bytes ``keep`` accepts go on. After `heal`, the others stay dead as
        half-open connections do, or with ``late`` deliver their data as after a network partition.
        """
        self._keep, self._delivers_late = keep, late
        self._loop.call_soon_threadsafe(self._healed.clear)
        for link in list(self._links):
            link.silent = link.silent or not keep(link.first)

    def heal(self) -> None:
        """Forward new connections again."""
        self._keep = None
        self._loop.call_soon_threadsafe(self._healed.set)

    def stop_listening(self) -> None:
        """Refuse connections from now on, and reset the open ones."""
        self._run(self._stop_listening())

    async def delivers_late(self) -> bool:
        """Whether a silent link delivers its data after `heal`; waits for that if so."""
        if self._delivers_late:
            await self._healed.wait()
        return self._delivers_late

    def is_silent_for(self, first: bytes) -> bool:
        return self._keep is not None and not self._keep(first)

    def breaks_now(self) -> bool:
        return self.breaking > 0 and self._random.random() < self.breaking

    def somewhere_in(self, chunk: bytes) -> int:
        """How many bytes are still forwarded: some, or all, so that only the reply is missing."""
        return self._random.choice([self._random.randrange(len(chunk)), len(chunk)])

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept, self._listener)

    async def _stop_listening(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for link in list(self._links):
            link.reset()

    async def _close(self) -> None:
        await self._stop_listening()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # In Python 3.11 `asyncio.start_server` loses connections that it accepts while it closes.
    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # the client has gone
            return
        task = self._loop.create_task(self._serve(connection))
        self._tasks.add(task)

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled():  # perhaps before it began
                connection.close()

        task.add_done_callback(end)

    async def _serve(self, connection: socket.socket) -> None:
        client = await asyncio.open_connection(sock=connection)
        try:
            target = await asyncio.open_connection("127.0.0.1", self._target)
        except (OSError, asyncio.CancelledError):
            client[1].transport.abort()
            return
        link = _Link(self, client, target)
        if self._listener is None:  # closed meanwhile
            link.reset()
            return
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)


class _Link:
    """A connection of a client, and the one to the target."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self.first = b""
        self.silent = False

    async def run(self) -> None:
        """Forward until one side ends, then end both."""
        directions = [
            asyncio.create_task(self._forward(self._client[0], self._server[1], commands=True)),
            asyncio.create_task(self._forward(self._server[0], self._client[1], commands=False)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            for _, writer in (self._client, self._server):
                writer.close()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, commands: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                if commands and not self.first:
                    self.first = chunk
                    self.silent = self._proxy.is_silent_for(chunk)
                if self._proxy.delay:
                    await asyncio.sleep(self._proxy.delay)
                if self.silent and not await self._proxy.delivers_late():
                    continue
                if commands and self._proxy.breaks_now():
                    self._proxy.broken += 1
                    writer.write(chunk[: self._proxy.somewhere_in(chunk)])
                    await writer.drain()
                    self.reset()
                    return
                writer.write(chunk)
                await writer.drain()

    def reset(self) -> None:
        """End both connections with RST, so that both sides get an error."""
        for _, writer in (self._client, self._server):
            own: socket.socket | None = writer.get_extra_info("socket")
            if own is not None and own.fileno() >= 0:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
