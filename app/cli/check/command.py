"""``python -m app check``: settings, providers, session APIs, Redis, journal, in one table."""

import argparse
import asyncio
import os
from importlib.util import find_spec

from app.cli.check.apps import app_rows
from app.cli.check.discovery import address_row, discovery_rows
from app.cli.check.preset import preset_rows
from app.cli.check.redis import redis_rows
from app.cli.check.session_apis import session_rows
from app.cli.check.tenants import tenant_rows
from app.cli.common import add_dir
from app.cli.table import CheckVerdict, Row, count, print_table
from app.config.canary import CanarySettings
from app.config.issuers import IssuerSettings
from app.config.model import Settings
from app.config.types import SHARED_SECRET
from app.formatting import fetch_fault, rounded_duration
from app.journal.files import JournalFiles
from app.journal.inspection import read_entries
from app.tokens.fetch import new_client
from app.tokens.provider_keys import ProviderKeys

HELP = "check settings, providers and Redis; exit 1 if anything is wrong"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dir(parser)


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    rows = [*tenant_rows(arguments.loaded), *asyncio.run(_all_rows(settings))]
    return print_table(rows)


async def _all_rows(settings: Settings) -> list[Row]:
    apps = sorted({client.app for issuer in settings.issuers for client in issuer.clients})
    summary = f"{count(len(settings.issuers), 'issuer')}; apps: {', '.join(apps)}"
    rows = [Row(CheckVerdict.RIGHT, "settings", summary)]
    async with new_client() as client:
        keys = [ProviderKeys(issuer, client) for issuer in settings.signing_issuers]
        await asyncio.gather(*(issuer_keys.refresh() for issuer_keys in keys))
        discoveries = await asyncio.gather(
            *(discovery_rows(issuer, client) for issuer in settings.signing_issuers)
        )
        for own, discovery in zip(keys, discoveries, strict=True):
            rows += [_issuer_row(own.issuer, own), *discovery]
            rows += preset_rows(own.issuer, own.current())
        rows.append(await address_row(settings, client))
    rows += await session_rows(settings)
    rows += [*await redis_rows(settings), *await app_rows(settings), journal_row(settings)]
    if settings.canary is not None:
        rows.append(_canary_row(settings.canary))
    return [*rows, _traces_row()] if settings.otel else rows


def _canary_row(canary: CanarySettings) -> Row:
    """The settings; `status` shows its results."""
    detail = f"app {canary.app}, each {rounded_duration(canary.interval)}; how it goes, status says"
    return Row(CheckVerdict.RIGHT, "canary", detail)


def _traces_row() -> Row:
    """Whether OpenTelemetry is installed. Its own variables configure the export."""
    if find_spec("opentelemetry") and find_spec("opentelemetry.sdk"):
        return Row(CheckVerdict.RIGHT, "otel", "OpenTelemetry is installed")
    return Row(CheckVerdict.WRONG, "otel", "OpenTelemetry is not installed: the extra [otel]")


def _issuer_row(issuer: IssuerSettings, keys: ProviderKeys) -> Row:
    state, what = keys.state(), f"issuer {issuer.issuer}"
    source = "jwks_uri" if issuer.jwks_uri else "discovery"
    used = [alg for client in issuer.clients for alg in client.algorithms or issuer.algorithms]
    wanted = [alg for alg in dict.fromkeys(used) if alg != SHARED_SECRET]
    if not wanted:
        return Row(CheckVerdict.RIGHT, what, f"{SHARED_SECRET} with each client's secret, no keys")
    if state.last_error is not None:
        return Row(
            CheckVerdict.WRONG,
            what,
            f"{source}: {fetch_fault(state.last_error, state.last_detail)}",
        )
    usable = keys.current()
    fitting = [key for key in (usable.keys if usable else ()) if key.algorithms & set(wanted)]
    algorithms = ", ".join(wanted)
    detail = f"{source}: {count(len(fitting), 'key')} for {algorithms}"
    if others := state.keys - len(fitting):
        detail += f", {others} for other algorithms"
    if state.skipped:
        detail += (
            f", {state.skipped} passed over (not for signatures, too small, too large,"
            " unreadable, or one of too many)"
        )
    if not fitting:
        return Row(CheckVerdict.WRONG, what, f"{detail}; compare algorithms with the provider's")
    return Row(CheckVerdict.RIGHT, what, detail)


def journal_row(settings: Settings) -> Row:
    """Whether the journal's directory is writable, and how many entries wait. Changes nothing."""
    path = settings.journal_path
    if path is None:
        return Row(
            CheckVerdict.RIGHT, "journal", "off: a logout while Redis is away is answered 503"
        )
    nearest = next(
        parent for parent in (path.parent, *path.parent.resolve().parents) if parent.exists()
    )
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Row(
            CheckVerdict.WRONG,
            "journal",
            f"{nearest} is not writable; or set journal to off",
        )
    try:
        refusals = [
            entry.refused for file in JournalFiles(path).all() for entry in read_entries(file)
        ]
    except OSError as error:
        return Row(CheckVerdict.WRONG, "journal", f"{path} cannot be read ({error})")
    waiting = refusals.count(None)
    aside = len(refusals) - waiting
    detail = f"{path}: {waiting} waiting, {aside} set aside"
    verdict = CheckVerdict.WARNING if waiting else CheckVerdict.RIGHT
    return Row(CheckVerdict.WRONG if aside else verdict, "journal", detail)
