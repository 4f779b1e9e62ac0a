"""``python -m app extend-markers``: lets markers live as long as ``max_session_age`` now requires.

A running receiver does this by itself when the setting was raised. The command is for a receiver
whose Redis user may not ``SCAN``, and shows with ``--dry-run`` what there is. It never shortens a
life, and running it again changes nothing.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping

from redis.asyncio import Redis

from app.cli.common import WrongUsage, opened
from app.config.model import Settings
from app.publish.publisher import new_store
from app.store.app_meta import AppMetas
from app.store.errors import EXCHANGE_FAULTS, fault_of
from app.store.marker_life import extend_markers
from app.store.session_ages import Raise
from backchannel_logout import AppKeys

HELP = "let markers live as long as max_session_age requires, after it was raised"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--app", action="append", metavar="APP", help="only this app; may be repeated"
    )
    parser.add_argument("--dry-run", action="store_true", help="count the markers, change nothing")


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    try:
        return asyncio.run(_run(settings, arguments))
    except EXCHANGE_FAULTS as error:
        print(f"Redis: {fault_of(error)}; what was extended stays so", file=sys.stderr)
        return 1


async def _run(settings: Settings, arguments: argparse.Namespace) -> int:
    async with opened(settings) as topology:
        store = new_store(settings, topology)
        wanted = arguments.app or store.apps
        if unknown := sorted({*wanted} - {*store.apps}):
            raise WrongUsage(f"no client of the settings leads to {', '.join(unknown)}")
        by_server: dict[Redis, list[str]] = {}
        for app in wanted:
            by_server.setdefault(await topology.primary(app), []).append(app)
        for server, apps in by_server.items():
            await _extend(server, await _ages(server, store.metas, apps), store.metas, arguments)
    return 0


async def _ages(server: Redis, metas: AppMetas, apps: list[str]) -> dict[str, Raise]:
    """The age in force of each app, and the one that is required."""
    ages = {}
    for app in apps:
        found = await server.hget(AppKeys(app).meta, "max_session_age")
        in_force = int(found) if found is not None and found.isdigit() else metas.own_age(app)
        ages[app] = Raise(in_force, max(in_force, metas.own_age(app)))
    return ages


async def _extend(
    server: Redis, ages: Mapping[str, Raise], metas: AppMetas, arguments: argparse.Namespace
) -> None:
    done = await extend_markers(server, ages, metas.issuers, dry_run=arguments.dry_run)
    for app, number in sorted(done.items()):
        if arguments.dry_run:
            print(f"app {app}: {number} markers, for sessions of {ages[app].new} s")
            continue
        if ages[app].new > ages[app].old:
            await server.hset(AppKeys(app).meta, "max_session_age", str(ages[app].new))
        print(f"app {app}: {number} markers extended, for sessions of {ages[app].new} s")
