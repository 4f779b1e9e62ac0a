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
from app.sessions.providers.factory import kratos_whoami
from app.tokens import fetch
from app.tokens.asked_fetches import AskedFetches
from app.tokens.provider_keys import ProviderKeys
from app.web.provider_sessions import ProviderSessions


@contextlib.asynccontextmanager
async def running_account(
    settings: Settings,
    publisher: Publisher,
    sessions: ProviderSessions,
    fetches: AskedFetches,
    *,
    stopping: Callable[[], bool],
) -> AsyncIterator[ASGIApp]:
    """The application of the listener."""
    async with _access_tokens(settings, fetches) as tokens, _kratos_callers(settings) as kratos:
        yield AccountApi(settings, publisher, sessions, tokens, kratos, stopping=stopping).app


@contextlib.asynccontextmanager
async def _kratos_callers(settings: Settings) -> AsyncIterator[KratosCallers | None]:
    """None unless an issuer's ``[issuers.sessions]`` has ``public_url``; at most one has."""
    async with fetch.new_client() as client:
        for issuer in settings.issuers:
            if (whoami := kratos_whoami(issuer, client)) is not None:
                yield KratosCallers(issuer, whoami)
                return
        yield None


@contextlib.asynccontextmanager
async def _access_tokens(
    settings: Settings, fetches: AskedFetches
) -> AsyncIterator[AccessTokens | None]:
    """Keys of their own: anyone can exhaust this listener's budget of key fetches, which must not
    affect logout tokens."""
    if settings.account_audience is None or settings.account_scope is None:
        yield None
        return
    async with fetch.new_client() as client:
        # The log has the fetches for logout tokens; here only those that fail.
        keys = {
            issuer.issuer: ProviderKeys(issuer, client, logs_fetches=False)
            for issuer in settings.signing_issuers
        }
        fetches.add(keys)
        issuers = {name: issuer for issuer in settings.signing_issuers for name in issuer.names}
        try:
            async with background([issuer_keys.keep_fresh for issuer_keys in keys.values()]):
                yield AccessTokens(
                    issuers, keys,
                    audience=settings.account_audience, scope=settings.account_scope,
                )  # fmt: skip
        finally:
            for issuer_keys in keys.values():
                await issuer_keys.aclose()
