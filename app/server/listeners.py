"""The HTTP listeners: served together, and stopped so that nobody honest sees a reset.

1  for at most ``drain`` seconds everything is served, each answer the last one of its
   connection; it ends when nothing comes any more, except where a load balancer asks `/readyz`
2  no new connection is begun; those that are in the kernel's queue are taken
3  what still comes on the open ones is served, until nothing comes any more
4  idle connections get a FIN, requests at work their answer
"""

import asyncio
import contextlib
import ctypes
import functools
import gc
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config.model import Settings
from app.log import new_log
from app.server.connection_limits import ConnectionLimits, Connections, LimitedHttp
from app.server.fast_path import FastPathProtocol, FastRoute

log = new_log(__name__)

# Nothing has come for so long: long for a round trip within a data centre, short for a stop.
QUIET = 0.1

# Step 3 ends by itself, for every answer ends its connection; this is for one who drips.
LAST_SECONDS = 1.0

# The operators' probes, and those who look at what is wrong.
ADMIN_CONNECTIONS = 256

# Apps' backends, a connection for each user who looks at a page; and browsers.
ACCOUNT_CONNECTIONS = 512

# Files beside the public connections: operators' and users' ones, Redis, keys, the journal.
OTHER_FILES = 1024


@contextlib.contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set, from the start on: also an embedded server that is
    only just starting is then stopped in order."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def serve_all(
    servers: Sequence["Server"],
    stop: asyncio.Event,
    *,
    drain: float,
    watched: Callable[[], bool] = lambda: False,
) -> None:
    """Serve until ``stop`` is set, then end in the order above.

    What comes to the first of them counts for ``drain``, in seconds: the operators' connections do
    not, for a probe now and then is no reason to wait. Where there is one regularly, ``watched``,
    nothing ends before all of ``drain`` is over.
    """
    # What is here stays: to look for garbage in it, too, now and then, held up every request for
    # tens of milliseconds (docs/performance.md).
    gc.freeze()
    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(server.serve(sockets=[server.listener]))
        await stop.wait()
        for server in servers:
            server.connections.stop()
        quiet = drain if watched() else QUIET
        await servers[0].connections.quiet(quiet, at_most=drain)
        for server in servers:
            server.should_exit = True


def public_server(
    settings: Settings,
    listener: socket.socket,
    app: Starlette,
    hot: FastRoute | None,
    on_shed: Callable[[], None] = lambda: None,
) -> "Server":
    """The providers' one; raises the limit of open files for it. ``on_shed``: see `Connections`."""
    most = int(settings.max_connections)
    allow_files(most)
    return Server(settings, listener, app, most=most, hot=hot, on_shed=on_shed)


def admin_server(settings: Settings, listener: socket.socket, app: ASGIApp) -> "Server":
    """The operators' one."""
    # The console's files may be kept; so it is said in the answers.
    return Server(settings, listener, _not_stored(app), most=ADMIN_CONNECTIONS, headers=())


def _not_stored(app: ASGIApp) -> ASGIApp:
    """``no-store`` on every answer that says nothing else."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
            await send(message)

        await app(scope, receive, sending)

    return answered


def account_server(settings: Settings, listener: socket.socket, app: ASGIApp) -> "Server":
    """The users' one."""
    return Server(settings, listener, app, most=ACCOUNT_CONNECTIONS)


class Server(uvicorn.Server):
    """uvicorn, with the signals left to us: there are several servers in the process."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        app: ASGIApp,
        *,
        most: int,
        hot: FastRoute | None = None,
        on_shed: Callable[[], None] = lambda: None,
        headers: Sequence[tuple[str, str]] = (("Cache-Control", "no-store"),),
    ) -> None:
        self.listener = listener
        self.connections = Connections(ConnectionLimits.of(settings, most), on_shed)
        http: Any = functools.partial(LimitedHttp, connections=self.connections)
        if hot is not None:
            http = functools.partial(FastPathProtocol, connections=self.connections, hot=hot)
        super().__init__(
            uvicorn.Config(
                app,
                loop="none",
                http=http,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                # Here, and not in the answers: the server itself refuses broken requests.
                headers=[*headers],
                proxy_headers=False,
                timeout_keep_alive=int(settings.keep_alive),
                timeout_graceful_shutdown=int(settings.shutdown_grace),
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Steps 2 to 4."""
        await take_pending(self.listener)
        for server in self.servers:
            server.close()
        if len(self.connections):
            await self.connections.quiet(QUIET, at_most=LAST_SECONDS)
        await super().shutdown(sockets)


# -- no new connections ---------------------------------------------------------------------

# Linux, <asm-generic/socket.h>; Python does not name it.
_SO_ATTACH_FILTER = 26

# Classic BPF on a TCP segment that comes for the listening socket: load the flags (byte 13),
# keep SYN and ACK, and drop what has SYN alone.
_DROP_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),
        (0x54, 0, 0, 0x12),
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),
    )
)


async def take_pending(listener: socket.socket) -> None:
    """Let the event loop accept what is in the kernel's queue, and nothing newer.

    The kernel resets what is in the queue when the socket closes, and between the last look
    at the queue and the close there is time for one more. So on Linux new connections
    are no longer begun first: whoever comes now tries again after a second, as after a lost
    packet, and meets our successor on this address, or nobody.
    """
    if begin_no_more(listener):
        await asyncio.sleep(QUIET)  # handshakes that are under way
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    deadline = asyncio.get_running_loop().time() + LAST_SECONDS
    while poll.poll(0) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0)


def begin_no_more(listener: socket.socket) -> bool:
    """Have the kernel drop requests for new connections. False where it can not."""
    if sys.platform != "linux":
        return False
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    fprog = struct.pack("@HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
    except OSError:
        return False
    return True


# -- files ----------------------------------------------------------------------------------


def allow_files(connections: int) -> None:
    """Raise the process's limit of open files for so many connections, or warn."""
    wanted = connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return
    allowed = wanted if hard == unlimited else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    if soft < wanted:
        # Raise the limit, or lower max_connections.
        log.warning("service", outcome="few_open_files", allowed=soft, wanted=wanted)
