"""The operators' API and console, and the users' listener, where the settings have them.

Both end sessions at the providers, and share the component that follows each termination.
"""

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from app.admin.probes import Body
from app.config.model import Settings
from app.publish.publisher import Publisher
from app.runtime.admin import Wrap, running_api
from app.server.listeners import Server, account_server
from app.store.unserved import Unserved
from app.telemetry.registry import Registry


@contextlib.asynccontextmanager
async def running_apis(
    settings: Settings,
    publisher: Publisher,
    users: Sequence[socket.socket],
    *,
    registry: Registry,
    health: Callable[[], Awaitable[Body]],
    stopping: Callable[[], bool],
    announce: Callable[[str], None],
    unserved: Callable[[], Unserved],
) -> AsyncIterator[tuple[Wrap, list[Server]]]:
    """What goes before the operators' application, and a server for each of ``users``, the sockets
    of their listener. ``unserved`` is
    what was found of apps that nobody serves."""
    if not settings.has_console and not users:
        yield (lambda app: app), []
        return
    # Only where it is on, for it brings much along.
    from app.web.provider_sessions import running_sessions  # noqa: PLC0415

    async with contextlib.AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(running_sessions(settings, publisher, registry))
        with_api = await stack.enter_async_context(
            running_api(
                settings,
                publisher,
                sessions,
                health=health,
                stopping=stopping,
                announce=announce,
                unserved=unserved,
            )
        )
        servers = []
        for listener in users:
            # What knows user agents takes its time to load: only where the listener is on.
            from app.runtime.account import running_account  # noqa: PLC0415

            app = await stack.enter_async_context(
                running_account(settings, publisher, sessions, stopping=stopping)
            )
            servers.append(account_server(settings, listener, app))
        yield with_api, servers
