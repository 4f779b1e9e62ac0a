"""What the commands that query Redis share: connecting, and selecting issuers and apps."""

import argparse
import contextlib
import getpass
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from app.canary.issuer import with_canary
from app.config.issuers import IssuerSettings
from app.config.model import Settings
from app.devtools.embedded_redis import running_url
from app.store.errors import EXCHANGE_FAULTS
from app.store.topology import RedisTopology, connect


class WrongUsage(Exception):
    """The arguments contradict the settings or each other. The message explains it."""


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[RedisTopology]:
    """Connect to Redis, or to the embedded server of a running receiver.

    Raises `EmbeddedFault` if no such server has ever run.
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


def add_dir(parser: argparse.ArgumentParser) -> None:
    """``--dir``, for commands that read the tenants' files themselves."""
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="the tenants' files, in place of tenants_dir"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def add_whom(parser: argparse.ArgumentParser) -> None:
    """``--issuer`` and ``--app``; a single issuer in the settings is the default."""
    parser.add_argument("--issuer", metavar="ISS", help="which issuer; needed if there are several")
    parser.add_argument(
        "--app", action="append", metavar="APP", help="only this app; may be repeated"
    )


def issuers_to_read(settings: Settings) -> tuple[IssuerSettings, ...]:
    """The issuers of the settings and the canary's, which can be selected by name."""
    return with_canary(settings)[0].issuers


def issuer_of(
    settings: Settings, name: str | None, among: Sequence[IssuerSettings] | None = None
) -> tuple[IssuerSettings, str]:
    """The selected issuer and the name that selects it; ``among`` defaults to the settings.

    Raises `WrongUsage`.
    """
    names = {alias: issuer for issuer in among or settings.issuers for alias in issuer.names}
    if name is None:
        if len(settings.issuers) > 1:
            raise WrongUsage(f"--issuer is needed, one of: {', '.join(names)}")
        return settings.issuers[0], settings.issuers[0].issuer
    if name not in names:
        raise WrongUsage(f"--issuer is none of the settings: {', '.join(names)}")
    return names[name], name


def apps_of(issuers: Sequence[IssuerSettings], wanted: Sequence[str] | None) -> list[str]:
    """The apps of these issuers, or the requested ones. Raises `WrongUsage`."""
    known = sorted({client.app for issuer in issuers for client in issuer.clients})
    for app in wanted or ():
        if app not in known:
            raise WrongUsage(f"--app {app!r} is none of: {', '.join(known)}")
    return sorted(set(wanted)) if wanted else known


def own_name() -> str:
    """The login name. Raises `WrongUsage`."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        raise WrongUsage("--by is needed: this system reports no login name") from None
