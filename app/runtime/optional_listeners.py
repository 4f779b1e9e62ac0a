"""Runs what is off by default: the operators' API and console, and the users' listener.

Both end sessions at the providers, and share what follows each termination. Their packages load
templates, sign-in code and a database of user agents, so they are imported here, where they are
needed, and not at the start of every receiver.
"""

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.types import ASGIApp

from app.admin.health import Health
from app.config.model import Settings
from app.runtime.components import Components
from app.server.listeners import Server, account_server
from app.telemetry.metrics.registry import Registry


@contextlib.asynccontextmanager
async def running_optional_listeners(
    operations: ASGIApp,
    account_sockets: Sequence[socket.socket],
    settings: Settings,
    components: Components,
    health: Health,
    registry: Registry,
    *,
    stopping: Callable[[], bool],
    announce: Callable[[str], None],
) -> AsyncIterator[tuple[ASGIApp, list[Server]]]:
    """The operators' application, which is ``operations`` where nothing is added, and a server for
    each account socket. ``settings`` are without the canary's issuer."""
    if not settings.has_console and not account_sockets:
        yield operations, []
        return
    from app.web.provider_sessions import running_sessions  # noqa: PLC0415

    publisher = components.publisher
    async with contextlib.AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(running_sessions(settings, publisher, registry))
        if settings.has_console:
            from app.runtime.admin import running_admin  # noqa: PLC0415

            operations = await stack.enter_async_context(
                running_admin(
                    operations, settings, components, sessions, health,
                    stopping=stopping, announce=announce,
                )
            )  # fmt: skip
        servers = []
        for listener in account_sockets:
            from app.runtime.account import running_account  # noqa: PLC0415

            app = await stack.enter_async_context(
                running_account(
                    settings, publisher, sessions, components.asked_fetches, stopping=stopping
                )
            )
            servers.append(account_server(settings, listener, app))
        yield operations, servers
