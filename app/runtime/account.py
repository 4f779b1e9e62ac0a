"""Builds and runs the users' listener."""

import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.types import ASGIApp

from app.account.access_token import AccessTokens
from app.account.api import AccountApi
from app.account.kratos_caller import KratosCallers
from app.background import background
from app.config.model import Settings
from app.publish.publisher import Publisher
from app.sessions.api_client.calls import new_client
from app.sessions.providers.factory import kratos_whoami
from app.tokens import fetch
from app.tokens.provider_keys import ProviderKeys
from app.web.provider_sessions import ProviderSessions


@contextlib.asynccontextmanager
async def running_account(
    settings: Settings,
    publisher: Publisher,
    sessions: ProviderSessions,
    *,
    stopping: Callable[[], bool],
) -> AsyncIterator[ASGIApp]:
    """What the listener serves."""
    async with _access_tokens(settings) as tokens, _kratos_callers(settings) as kratos:
        yield AccountApi(settings, publisher, sessions, tokens, kratos, stopping=stopping).app


@contextlib.asynccontextmanager
async def _kratos_callers(settings: Settings) -> AsyncIterator[KratosCallers | None]:
    """None unless an issuer's ``[issuers.sessions]`` has ``public_url``; at most one has."""
    async with new_client() as client:
        for issuer in settings.issuers:
            if (whoami := kratos_whoami(issuer, client)) is not None:
                yield KratosCallers(issuer, whoami)
                return
        yield None


@contextlib.asynccontextmanager
async def _access_tokens(settings: Settings) -> AsyncIterator[AccessTokens | None]:
    """With keys of their own: the budget of fetches for unknown keys, which anybody can use up
    here, is not that of the logout tokens."""
    if settings.account_audience is None or settings.account_scope is None:
        yield None
        return
    async with fetch.new_client() as client:
        keys = {one.issuer: ProviderKeys(one, client) for one in settings.signing_issuers}
        issuers = {name: one for one in settings.signing_issuers for name in one.names}
        try:
            async with background([one.keep_fresh for one in keys.values()]):
                yield AccessTokens(
                    issuers, keys,
                    audience=settings.account_audience, scope=settings.account_scope,
                )  # fmt: skip
        finally:
            for one in keys.values():
                await one.aclose()
