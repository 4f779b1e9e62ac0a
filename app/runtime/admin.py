"""Builds and runs the operators' API and console."""

import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.types import ASGIApp

from app.admin.access import new_token
from app.admin.api import AdminApi
from app.admin.health import Health
from app.config.model import Settings
from app.config.types import GENERATE
from app.console.console import running_console, with_console
from app.runtime.components import Components
from app.web.provider_sessions import ProviderSessions


@contextlib.asynccontextmanager
async def running_admin(
    operations: ASGIApp,
    settings: Settings,
    components: Components,
    sessions: ProviderSessions,
    health: Health,
    *,
    stopping: Callable[[], bool],
    announce: Callable[[str], None],
) -> AsyncIterator[ASGIApp]:
    """``operations`` with `/api` and `/console` in front. Announces a generated token once."""
    token = None if settings.admin_token is None else settings.admin_token.get_secret_value()
    if token == GENERATE:
        token = new_token()
        announce(f"admin token for this run: {token}")
    publisher = components.publisher
    api = AdminApi(
        settings, token, publisher, sessions, components.asked_fetches,
        health=health.body, stopping=stopping,
    )  # fmt: skip
    async with running_console(
        settings, api, publisher.reads.client, lambda: components.unserved.found
    ) as console:
        yield with_console(operations, console)
