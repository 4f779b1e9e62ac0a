"""Serves HTTP listeners together, until `app.server.shutdown` stops them."""

import asyncio
import contextlib
import functools
import gc
import resource
import socket
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
from app.server.shutdown import serve_last_requests, stop_accepting

log = new_log(__name__)

# Probes, and operators who investigate.
ADMIN_CONNECTIONS = 256

# Apps' backends, with a connection for each user who has a page open, and browsers.
ACCOUNT_CONNECTIONS = 512

# Files besides the public connections: other listeners, Redis, keys, the journal.
OTHER_FILES = 1024


async def serve_all(
    servers: Sequence["Server"],
    stop: asyncio.Event,
    *,
    drain: float,
    watched: Callable[[], bool] = lambda: False,
) -> None:
    """Serve until ``stop`` is set, then shut down in the order of `app.server.shutdown`.

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
        await serve_last_requests([server.connections for server in servers], drain, watched())
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
        """Steps 2 to 4 of `app.server.shutdown`."""
        await stop_accepting(self.listener, self.servers, self.connections)
        await super().shutdown(sockets)


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
