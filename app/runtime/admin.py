"""Builds and runs the operators' API and console."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from app.admin.probes import Body
from app.config.model import Settings
from app.config.types import GENERATE
from app.publish.publisher import Publisher
from app.store.unserved import Unserved

if TYPE_CHECKING:
    from app.web.provider_sessions import ProviderSessions

Wrap = Callable[[ASGIApp], ASGIApp]
"""Puts something before an application of the operators' listener."""


@contextlib.asynccontextmanager
async def running_api(
    settings: Settings,
    publisher: Publisher,
    sessions: "ProviderSessions",
    *,
    health: Callable[[], Awaitable[Body]],
    stopping: Callable[[], bool],
    announce: Callable[[str], None],
    unserved: Callable[[], Unserved],
) -> AsyncIterator[Wrap]:
    """Puts `/api` and `/console` before what the listener serves; nothing, where there is neither
    an ``admin_token`` nor ``admin_oidc``.

    A token that is made is announced, once.
    """
    if not settings.has_console:
        yield lambda app: app
        return
    # Much is needed for it, such as the console's templates: imported only where it is on.
    from app.admin.access import new_token  # noqa: PLC0415
    from app.admin.api import AdminApi  # noqa: PLC0415
    from app.console.console import running_console, with_console  # noqa: PLC0415

    token = None if settings.admin_token is None else settings.admin_token.get_secret_value()
    if token == GENERATE:
        token = new_token()
        announce(f"admin token for this run: {token}")
    api = AdminApi(settings, token, publisher, sessions, health=health, stopping=stopping)
    async with running_console(settings, api, publisher.reads.client, unserved) as console:
        yield lambda app: with_console(app, console)
