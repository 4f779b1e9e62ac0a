"""``python -m app check``: settings, each issuer's discovery and keys, and Redis, in one table."""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.exceptions import RedisError, ResponseError

from app.embedded import EmbeddedFault, find_server
from app.publish.redis_link import REDIS_SECONDS, connect
from app.settings import IssuerSettings, Settings, SettingsFault
from app.tokens.fetch import new_client
from app.tokens.provider_keys import ProviderKeys

HELP = "look at settings, providers and Redis; exit 1 if anything is wrong"

# XTRIM MINID and the way scripts are replicated.
_OLDEST_REDIS = (6, 2)


class Verdict(StrEnum):
    """The first column."""

    RIGHT = "ok"
    WRONG = "WRONG"
    UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    verdict: Verdict
    what: str
    detail: str


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Nothing beside ``--config``."""


def run(settings: Settings, _: argparse.Namespace) -> int:
    rows = asyncio.run(_all_rows(settings))
    _print(rows)
    return 1 if any(row.verdict is Verdict.WRONG for row in rows) else 0


def report_settings(fault: SettingsFault, command: str) -> int:
    """Say what is wrong with the settings; returns the exit status."""
    if command == "check":
        _print([Row(Verdict.WRONG, "settings", line) for line in fault.faults])
    else:
        print("the settings can not be used:", file=sys.stderr)
        for line in fault.faults:
            print(f"  {line}", file=sys.stderr)
    return 1


async def _all_rows(settings: Settings) -> list[Row]:
    apps = sorted({one.app for issuer in settings.issuers for one in issuer.clients})
    rows = [
        Row(Verdict.RIGHT, "settings", f"{len(settings.issuers)} issuers, apps {', '.join(apps)}")
    ]
    async with new_client() as client:
        keys = [ProviderKeys(issuer, client) for issuer in settings.issuers]
        await asyncio.gather(*(one.refresh() for one in keys))
    rows += [_issuer_row(one.issuer, one) for one in keys]
    return rows + await _redis_rows(settings)


def _issuer_row(issuer: IssuerSettings, keys: ProviderKeys) -> Row:
    state = keys.state()
    source = "jwks_uri" if issuer.jwks_uri else "discovery"
    if state.last_error is not None:
        return Row(Verdict.WRONG, f"issuer {issuer.issuer}", f"{source}: {state.last_error}")
    usable = keys.current()
    fitting = [
        key for key in (usable.keys if usable else ()) if key.algorithms & set(issuer.algorithms)
    ]
    detail = f"{source}: {state.keys} keys, {state.skipped} passed over"
    if not fitting:
        algorithms = ", ".join(issuer.algorithms)
        return Row(Verdict.WRONG, f"issuer {issuer.issuer}", f"{detail}; none is for {algorithms}")
    return Row(Verdict.RIGHT, f"issuer {issuer.issuer}", detail)


async def _redis_rows(settings: Settings) -> list[Row]:
    if settings.embedded:
        try:
            return [Row(Verdict.RIGHT, "redis", f"embedded: {find_server()}")]
        except EmbeddedFault as fault:
            return [Row(Verdict.WRONG, "redis", str(fault))]
    redis = connect(settings.redis_url.get_secret_value())
    try:
        async with asyncio.timeout(REDIS_SECONDS * 3):
            info: dict[str, Any] = await redis.info()
    except ResponseError:
        return [Row(Verdict.UNKNOWN, "redis", "this user may not run INFO")]
    except (RedisError, OSError) as error:
        return [Row(Verdict.WRONG, "redis", f"does not answer: {type(error).__name__}")]
    finally:
        with contextlib.suppress(RedisError, OSError):
            await redis.aclose()
    return list(_info_rows(info))


def _info_rows(info: dict[str, Any]) -> Iterable[Row]:
    server = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    old = len(numbers) == 2 and numbers < _OLDEST_REDIS
    yield Row(
        Verdict.WRONG if old else Verdict.RIGHT,
        "redis version",
        f"{server} {version}" + ("; 6.2 or later is needed" if old else ""),
    )
    replica = info.get("role") in ("slave", "replica")
    yield Row(
        Verdict.WRONG if replica else Verdict.RIGHT,
        "redis role",
        "a replica takes no writes; name the primary" if replica else "primary",
    )
    aof = info.get("aof_enabled") == 1
    yield Row(
        Verdict.RIGHT if aof else Verdict.WRONG,
        "redis persistence",
        "append-only file"
        if aof
        else "no append-only file: a restart signs ended sessions in again",
    )
    policy = info.get("maxmemory_policy")
    keeps = policy == "noeviction"
    yield Row(
        Verdict.RIGHT if keeps else Verdict.WRONG if policy else Verdict.UNKNOWN,
        "redis eviction",
        f"maxmemory-policy {policy}"
        + ("" if keeps else ": an evicted marker signs an ended session in again"),
    )


def _print(rows: list[Row]) -> None:
    width = max(len(row.what) for row in rows)
    for row in rows:
        print(f"{row.verdict:<5}  {row.what:<{width}}  {row.detail}")
