"""What the commands that work on Redis share: the way there, and whom they are about."""

import argparse
import contextlib
from collections.abc import AsyncIterator, Sequence

from app.canary.issuer import with_canary
from app.config.issuers import IssuerSettings
from app.config.model import Settings
from app.devtools.embedded_redis import running_url
from app.store.errors import EXCHANGE_FAULTS
from app.store.topology import RedisTopology, connect


class WrongUsage(Exception):
    """The arguments do not fit the settings, or each other; the message says how."""


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[RedisTopology]:
    """The way to Redis, also to the embedded server of a receiver that runs.

    Raises `EmbeddedFault` where no such server has ever run.
    """
    if settings.embedded:
        url = running_url(settings.data_dir, settings.embedded_port)
    else:
        url = settings.redis_url.get_secret_value()
    link = RedisTopology(connect(url), bounded=True)
    try:
        yield link
    finally:
        with contextlib.suppress(*EXCHANGE_FAULTS):
            await link.aclose()


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def add_whom(parser: argparse.ArgumentParser) -> None:
    """``--issuer`` and ``--app``; with one issuer in the settings it is that one."""
    parser.add_argument("--issuer", metavar="ISS", help="which issuer; needed if there are several")
    parser.add_argument(
        "--app", action="append", metavar="APP", help="this app alone; may be repeated"
    )


def issuers_to_read(settings: Settings) -> tuple[IssuerSettings, ...]:
    """Those of the settings and, for who names it, the canary's: it can be looked at alone."""
    return with_canary(settings)[0].issuers


def issuer_of(
    settings: Settings, name: str | None, among: Sequence[IssuerSettings] | None = None
) -> tuple[IssuerSettings, str]:
    """The issuer that is meant, and by which of its names; ``among`` None: those of the settings.

    Raises `WrongUsage`.
    """
    names = {one: issuer for issuer in among or settings.issuers for one in issuer.names}
    if name is None:
        if len(settings.issuers) > 1:
            raise WrongUsage(f"--issuer is needed, one of: {', '.join(names)}")
        return settings.issuers[0], settings.issuers[0].issuer
    if name not in names:
        raise WrongUsage(f"--issuer is none of the settings: {', '.join(names)}")
    return names[name], name


def apps_of(issuers: Sequence[IssuerSettings], wanted: Sequence[str] | None) -> list[str]:
    """The apps of these issuers, or those of them that are wanted. Raises `WrongUsage`."""
    known = sorted({client.app for issuer in issuers for client in issuer.clients})
    for app in wanted or ():
        if app not in known:
            raise WrongUsage(f"--app {app!r} is none of: {', '.join(known)}")
    return sorted(set(wanted)) if wanted else known
