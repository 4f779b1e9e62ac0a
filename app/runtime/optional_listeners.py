"""Runs what is off by default: the operators' API and console, and the users' listener.

Both end sessions at the providers, and share what follows each termination. Their packages load
templates, sign-in code and a database of user agents, so they are imported here, where they are
needed, and not at the start of every receiver.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from app.admin.health import Health
from app.background import end, logged
from app.config.model import Settings
from app.config.reload import ReloadResult
from app.runtime.components import Components
from app.server.listeners import Server, account_server
from app.telemetry.metrics.registry import Registry

# Requests that began with the earlier settings end before; streams begin anew.
_RETIRE_SECONDS = 30.0


class _Replaceable:
    """An application that can be replaced by another one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class OptionalListeners:
    """`operations` is the operators' application, which is the given one where nothing is added;
    `servers` has one for each account socket. ``settings`` are without the canary's issuer."""

    def __init__(
        self,
        operations: ASGIApp,
        account_sockets: Sequence[socket.socket],
        settings: Settings,
        components: Components,
        health: Health,
        registry: Registry,
        *,
        reload: Callable[[str], Awaitable[ReloadResult]],
        stopping: Callable[[], bool],
        announce: Callable[[str], None],
    ) -> None:
        self._plain = operations
        self._components = components
        self._health = health
        self._registry = registry
        self._reload = reload
        self._stopping = stopping
        self._needed = settings.has_console or bool(account_sockets)
        self._console = None
        if settings.has_console:
            from app.runtime.admin import OperatorAccess  # noqa: PLC0415

            self._console = OperatorAccess(settings, announce)
        self.operations = _Replaceable(operations)
        self._account = _Replaceable(operations) if account_sockets else None
        self.servers: list[Server] = [
            account_server(settings, listener, self._account)
            for listener in account_sockets
            if self._account is not None
        ]
        self._stack = contextlib.AsyncExitStack()
        self._retiring: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self, settings: Settings) -> AsyncIterator[None]:
        """Serve with these settings."""
        await self._build(settings)
        try:
            yield
        finally:
            await end(self._retiring)
            await self._stack.aclose()

    async def serve(self, settings: Settings) -> None:
        """Serve with these settings from now on."""
        if not self._needed:
            return
        old, self._stack = self._stack, contextlib.AsyncExitStack()
        await self._build(settings)

        async def retire() -> None:
            try:
                await asyncio.sleep(_RETIRE_SECONDS)
            finally:
                await old.aclose()

        task = asyncio.create_task(logged(retire))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _build(self, settings: Settings) -> None:
        if not self._needed:
            return
        from app.web.provider_sessions import running_sessions  # noqa: PLC0415

        stack, components = self._stack, self._components
        publisher = components.publisher
        sessions = await stack.enter_async_context(
            running_sessions(settings, publisher, self._registry)
        )
        operations = self._plain
        if self._console is not None:
            from app.runtime.admin import running_admin  # noqa: PLC0415

            operations = await stack.enter_async_context(
                running_admin(
                    self._plain, settings, components, sessions, self._health, self._console,
                    reload=self._reload, stopping=self._stopping,
                )
            )  # fmt: skip
        if self._account is not None:
            from app.runtime.account import running_account  # noqa: PLC0415

            self._account.app = await stack.enter_async_context(
                running_account(
                    settings, publisher, sessions, components.asked_fetches,
                    stopping=self._stopping,
                )
            )  # fmt: skip
        self.operations.app = operations
