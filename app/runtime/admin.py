"""Builds and runs the operators' API and console."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.types import ASGIApp

from app.admin.access import new_token
from app.admin.api import AdminApi
from app.admin.health import Health
from app.config.model import Settings
from app.config.reload import ReloadResult
from app.config.types import GENERATE
from app.console.console import running_console, with_console
from app.console.sign_in.operator_sessions import OperatorSessions
from app.runtime.components import Components
from app.web.provider_sessions import ProviderSessions


class OperatorAccess:
    """Who may come in, as long as the process lives: the token, and who has signed in. Announces a
    generated token."""

    def __init__(self, settings: Settings, announce: Callable[[str], None]) -> None:
        token = None if settings.admin_token is None else settings.admin_token.get_secret_value()
        if token == GENERATE:
            token = new_token()
            announce(f"admin token for this run: {token}")
        self.token = token
        self.sessions = OperatorSessions()


@contextlib.asynccontextmanager
async def running_admin(
    operations: ASGIApp,
    settings: Settings,
    components: Components,
    sessions: ProviderSessions,
    health: Health,
    access: OperatorAccess,
    *,
    reload: Callable[[str], Awaitable[ReloadResult]],
    stopping: Callable[[], bool],
) -> AsyncIterator[ASGIApp]:
    """``operations`` with `/api` and `/console` in front."""
    publisher = components.publisher
    api = AdminApi(
        settings, access.token, publisher, sessions, components.asked_fetches,
        reload=reload, health=health.body, stopping=stopping,
    )  # fmt: skip
    async with running_console(
        settings, api, access.sessions, publisher.reads.client, lambda: components.unserved.found
    ) as console:
        yield with_console(operations, console)
