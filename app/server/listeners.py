"""Serves HTTP listeners together, and shuts down without resetting well-behaved clients.

1  For at most ``drain`` seconds everything is served, each response the last one of its connection.
   Ends when traffic ceases, except where a load balancer polls `/readyz`.
2  No new connections; those in the kernel's queue are accepted.
3  Open connections are served until traffic ceases.
4  Idle connections get a FIN, requests in progress their response.
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

# Traffic has ceased after this long: long for a round trip in a data centre, short for a stop.
QUIET = 0.1

# Step 3 ends by itself, since every response ends its connection; this is for clients that drip.
LAST_SECONDS = 1.0

# Probes, and operators who investigate.
ADMIN_CONNECTIONS = 256

# Apps' backends, with a connection for each user who has a page open, and browsers.
ACCOUNT_CONNECTIONS = 512

# Files besides the public connections: other listeners, Redis, keys, the journal.
OTHER_FILES = 1024


@contextlib.contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """An event which SIGTERM and SIGINT set, from the start: an embedded server that is still
    starting is stopped in order, too."""
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
    """Serve until ``stop`` is set, then shut down in the order above.

    ``drain``, in seconds, depends on the traffic of the first server: a probe on the operators'
    listener is no reason to wait. If one arrives regularly, ``watched``, all of ``drain`` is used.
    """
    # Everything here is permanent. Searching it for garbage delayed every request now and then, by
    # tens of milliseconds (docs/performance.md).
    gc.freeze()
    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(server.serve(sockets=[server.listener]))
        await stop.wait()
        for server in servers:
            server.connections.stop()
        quiet = drain if watched() else QUIET
        await servers[0].connections.quiet(quiet, max_seconds=drain)
        for server in servers:
            server.should_exit = True


def public_server(
    settings: Settings,
    listener: socket.socket,
    app: Starlette,
    fast_route: FastRoute | None,
    on_shed: Callable[[], None] = lambda: None,
) -> "Server":
    """The providers' server; raises the limit of open files. ``on_shed``: see `Connections`."""
    connections = int(settings.max_connections)
    allow_files(connections)
    return Server(
        settings, listener, app,
        max_connections=connections, fast_route=fast_route, on_shed=on_shed,
    )  # fmt: skip


def admin_server(settings: Settings, listener: socket.socket, app: ASGIApp) -> "Server":
    """The operators' server."""
    # The console's files may be cached, so the header is set per response.
    app = _with_no_store(app)
    return Server(settings, listener, app, max_connections=ADMIN_CONNECTIONS, headers=())


def _with_no_store(app: ASGIApp) -> ASGIApp:
    """``no-store`` on every response without a Cache-Control of its own."""

    async def with_no_store(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
            await send(message)

        await app(scope, receive, send_with_header)

    return with_no_store


def account_server(settings: Settings, listener: socket.socket, app: ASGIApp) -> "Server":
    """The users' server."""
    return Server(settings, listener, app, max_connections=ACCOUNT_CONNECTIONS)


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: there are several servers in the process."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        app: ASGIApp,
        *,
        max_connections: int,
        fast_route: FastRoute | None = None,
        on_shed: Callable[[], None] = lambda: None,
        headers: Sequence[tuple[str, str]] = (("Cache-Control", "no-store"),),
    ) -> None:
        self.listener = listener
        self.connections = Connections(ConnectionLimits.of(settings, max_connections), on_shed)
        http: Any = functools.partial(LimitedHttp, connections=self.connections)
        if fast_route is not None:
            http = functools.partial(
                FastPathProtocol, connections=self.connections, route=fast_route
            )
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
                # Not in the application: the server itself refuses broken requests.
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
            await self.connections.quiet(QUIET, max_seconds=LAST_SECONDS)
        await super().shutdown(sockets)


# -- no new connections ---------------------------------------------------------------------

# Linux, <asm-generic/socket.h>; Python has no name for them.
_SO_ATTACH_FILTER = 26

# Classic BPF on a TCP segment for the listening socket: load the flags (byte 13), mask SYN and ACK,
# and drop the segment if it has SYN alone.
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
    """Let the event loop accept the connections in the kernel's queue, and none after.

    Closing the socket resets what is in the queue, and between the last look at the queue and the
    close there is time for one more. So on Linux the kernel stops beginning new connections first:
    a client that connects now tries again after a second, as after a lost packet, and reaches the
    next process on this address, if there is one.
    """
    if begin_no_more(listener):
        await asyncio.sleep(QUIET)  # for handshakes in progress
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    deadline = asyncio.get_running_loop().time() + LAST_SECONDS
    while poll.poll(0) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0)


def begin_no_more(listener: socket.socket) -> bool:
    """Have the kernel drop requests for new connections. Returns whether it does."""
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
    """Raise the process's limit of open files for this many connections, or warn."""
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
