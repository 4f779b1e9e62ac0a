"""The operators' API, built and kept running: for the service, and for the parent of workers."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.types import ASGIApp

from app.admin.access import new_token
from app.admin.api import AdminApi, with_api
from app.admin.health import Body
from app.publish.publisher import Publisher
from app.sessions.calls import new_client
from app.sessions.providers import session_provider
from app.settings import Settings
from app.settings_values import GENERATE

Wrap = Callable[[ASGIApp], ASGIApp]
"""Puts something before an application of the operators' listener."""


@contextlib.asynccontextmanager
async def running_api(
    settings: Settings,
    publisher: Publisher,
    *,
    health: Callable[[], Awaitable[Body]],
    stopping: Callable[[], bool],
    announce: Callable[[str], None],
) -> AsyncIterator[Wrap]:
    """Puts `/api` before what the listener serves; nothing, where there is no ``admin_token``.

    A token that is made is announced, once.
    """
    if settings.admin_token is None:
        yield lambda app: app
        return
    token = settings.admin_token.get_secret_value()
    if token == GENERATE:
        token = new_token()
        announce(f"admin token for this run: {token}")
    async with new_client() as client:
        found = {one.issuer: session_provider(one, client) for one in settings.issuers}
        api = AdminApi(
            settings,
            token,
            publisher,
            {name: provider for name, provider in found.items() if provider is not None},
            health=health,
            stopping=stopping,
        )
        async with api.running():
            yield lambda app: with_api(app, api.app)
