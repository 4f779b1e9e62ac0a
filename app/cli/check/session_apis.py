"""Rows about session APIs: whether they answer, and whether markers live long enough."""

import asyncio

import httpx

from app.cli.table import CheckVerdict, Row
from app.config.issuers import IssuerSettings
from app.config.model import Settings
from app.formatting import duration
from app.sessions.lifecycle import outlive_markers
from app.sessions.provider_session import Lifetimes
from app.sessions.providers.factory import session_provider
from app.sessions.session_provider import SENTENCES, ProviderFault, SessionProvider
from app.tokens.fetch import new_client

# No provider has this user: listing its sessions only tests the permission to list.
NO_USER = "00000000-0000-0000-0000-000000000000"


async def session_rows(settings: Settings) -> list[Row]:
    """A row for each session API, and one for each app whose markers expire too early."""
    async with new_client() as client:
        rows = await asyncio.gather(*(_rows_of(issuer, client) for issuer in settings.issuers))
    return [row for issuer_rows in rows for row in issuer_rows]


async def _rows_of(issuer: IssuerSettings, client: httpx.AsyncClient) -> list[Row]:
    provider = session_provider(issuer, client)
    if provider is None:
        return []
    what = f"sessions {issuer.issuer}"
    try:
        await provider.list(NO_USER)
        lifetimes = await provider.lifetimes()
    except ProviderFault as fault:
        return [Row(CheckVerdict.WRONG, what, f"{provider.kind}: {fault}: {SENTENCES[fault.kind]}")]
    return [
        Row(CheckVerdict.RIGHT, what, _described(provider, lifetimes)),
        *_warnings(issuer, what, lifetimes),
    ]


def _warnings(issuer: IssuerSettings, what: str, lifetimes: Lifetimes) -> list[Row]:
    """A row for each app in which a provider's session could outlive its marker."""
    ages = {client.app: client.max_session_age for client in issuer.clients}
    longest = "forever" if lifetimes.absolute is None else f"for {duration(lifetimes.absolute)}"
    return [
        Row(
            CheckVerdict.WARNING,
            what,
            f"they live {longest}, but the markers of {app} end after {duration(age)} "
            f"(max_session_age): by then, {app} must have ended its own sessions",
        )
        for app, age in sorted(ages.items())
        if outlive_markers(lifetimes, age)
    ]


def _described(provider: SessionProvider, lifetimes: Lifetimes) -> str:
    parts = [f"{provider.kind}: can be listed"]
    if lifetimes.idle is not None:
        parts.append(f"idle limit {duration(lifetimes.idle)}")
    if lifetimes.absolute is not None:
        parts.append(f"absolute limit {duration(lifetimes.absolute)}")
    detail = f"{', '.join(parts)} ({lifetimes.source})"
    if not provider.sends_logout_tokens:
        detail += "; it sends no logout tokens, and can extend a session beyond its limit"
    return detail
