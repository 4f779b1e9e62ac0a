"""``python -m app check``: settings, each issuer's discovery and keys, and Redis, in one table."""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import RedisCluster
from redis.exceptions import (
    AuthenticationError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.embedded import EmbeddedFault, find_server
from app.publish.redis_link import REDIS_SECONDS, connect
from app.settings import IssuerSettings, Settings, SettingsFault
from app.tokens.fetch import new_client
from app.tokens.provider_keys import ProviderKeys
from backchannel_logout.connection import AsyncClient, aclose

HELP = "look at settings, providers and Redis; exit 1 if anything is wrong"

# XTRIM MINID and the way scripts are replicated.
_OLDEST_REDIS = (6, 2)

FETCH_FAULTS = {
    "connection": "can not be reached",
    "timeout": "does not answer in time",
    "not_https": "names an address that is not https",
    "content_encoding": "compressed, although we ask for it plain",
    "too_large": "larger than 512 KiB",
    "not_a_key_set": "the keys are no JSON Web Key Set with a key that can be used",
    "discovery_not_json": "the document is not JSON",
    "discovery_issuer": "the document names another issuer; compare them character by character",
    "discovery_jwks_uri": "the document names no jwks_uri",
}
"""A sentence for each code of a failed fetch; ``http_404`` and the like speak for themselves."""


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
    return _print(asyncio.run(_all_rows(settings)))


def report_settings(fault: SettingsFault, command: str) -> int:
    """Say what is wrong with the settings; returns the exit status."""
    if command == "check":
        return _print([Row(Verdict.WRONG, "settings", line) for line in fault.faults])
    print("the settings can not be used:", file=sys.stderr)
    for line in fault.faults:
        print(f"  {line}", file=sys.stderr)
    return 1


def fetch_fault(code: str) -> str:
    """A failed fetch for people: the code, and what it means."""
    return f"{code}: {FETCH_FAULTS[code]}" if code in FETCH_FAULTS else code


async def _all_rows(settings: Settings) -> list[Row]:
    apps = sorted({one.app for issuer in settings.issuers for one in issuer.clients})
    summary = f"{_count(len(settings.issuers), 'issuer')}; apps: {', '.join(apps)}"
    rows = [Row(Verdict.RIGHT, "settings", summary)]
    async with new_client() as client:
        keys = [ProviderKeys(issuer, client) for issuer in settings.issuers]
        await asyncio.gather(*(one.refresh() for one in keys))
    rows += [_issuer_row(one.issuer, one) for one in keys]
    return rows + await _redis_rows(settings)


def _issuer_row(issuer: IssuerSettings, keys: ProviderKeys) -> Row:
    state, what = keys.state(), f"issuer {issuer.issuer}"
    source = "jwks_uri" if issuer.jwks_uri else "discovery"
    if state.last_error is not None:
        return Row(Verdict.WRONG, what, f"{source}: {fetch_fault(state.last_error)}")
    usable = keys.current()
    fitting = [
        key for key in (usable.keys if usable else ()) if key.algorithms & set(issuer.algorithms)
    ]
    algorithms = ", ".join(issuer.algorithms)
    detail = f"{source}: {_count(len(fitting), 'key')} for {algorithms}"
    if others := state.keys - len(fitting):
        detail += f", {others} for other algorithms"
    if state.skipped:
        detail += f", {state.skipped} passed over (not for signatures, too small, or unreadable)"
    if not fitting:
        return Row(Verdict.WRONG, what, f"{detail}; compare algorithms with the provider's")
    return Row(Verdict.RIGHT, what, detail)


async def _redis_rows(settings: Settings) -> list[Row]:
    if settings.embedded:
        try:
            return [Row(Verdict.RIGHT, "redis", f"embedded: {find_server()}")]
        except EmbeddedFault as fault:
            return [Row(Verdict.WRONG, "redis", str(fault))]
    url = settings.redis_url.get_secret_value()
    what = f"redis {_address(url)}"
    redis = connect(url)
    try:
        async with asyncio.timeout(REDIS_SECONDS * 3):
            infos = await _infos(redis, what)
    except AuthenticationError:
        return [Row(Verdict.WRONG, what, "refuses this user or password")]
    except ResponseError:
        return [Row(Verdict.UNKNOWN, what, "answers, but this user may not run INFO")]
    except (RedisTimeoutError, TimeoutError):
        return [Row(Verdict.WRONG, what, "does not answer in time")]
    except (RedisError, RedisClusterException, OSError) as error:
        return [Row(Verdict.WRONG, what, f"can not be reached ({type(error).__name__})")]
    finally:
        with contextlib.suppress(RedisError, RedisClusterException, OSError):
            await aclose(redis)
    return [row for server, info in infos for row in _info_rows(server, info)]


async def _infos(redis: AsyncClient, what: str) -> list[tuple[str, dict[str, Any]]]:
    """What each server that takes writes says of itself: several only in a Cluster."""
    if isinstance(redis, RedisCluster):
        await redis.initialize()
        nodes = sorted(redis.get_primaries(), key=lambda node: node.name)
        return [(f"redis {one.name}", await redis.info(target_nodes=one)) for one in nodes]
    info = await redis.info()
    if "cluster" in (info.get("redis_mode"), info.get("server_mode")):
        info["role"] = "cluster"
    return [(what, info)]


def _address(url: str) -> str:
    """Where the URL leads, without user, password and options."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    place = rest.rpartition("@")[2].rstrip("/")
    if "+" in scheme or scheme == "unix":
        return place
    host, slash, db = place.partition("/")
    return f"{host if urlsplit(f'//{host}').port else f'{host}:6379'}{slash}{db}"


def _info_rows(what: str, info: dict[str, Any]) -> Iterable[Row]:
    server = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    old = len(numbers) == 2 and numbers < _OLDEST_REDIS
    yield Row(
        Verdict.WRONG if old else Verdict.RIGHT,
        what,
        f"{server} {version}" + ("; 6.2 or later is needed" if old else ""),
    )
    yield _role_row(info.get("role"))
    match info.get("aof_enabled"):
        case 1:
            yield Row(Verdict.RIGHT, "redis persistence", "append-only file")
        case None:
            yield Row(Verdict.UNKNOWN, "redis persistence", "it does not say")
        case _:
            lost = "no append-only file: a restart signs ended sessions in again"
            yield Row(Verdict.WRONG, "redis persistence", f"{lost}; set appendonly yes")
    match info.get("maxmemory_policy"):
        case "noeviction":
            yield Row(Verdict.RIGHT, "redis eviction", "noeviction")
        case None:
            yield Row(Verdict.UNKNOWN, "redis eviction", "it does not say")
        case policy:
            lost = f"{policy}: an evicted marker signs an ended session in again"
            yield Row(Verdict.WRONG, "redis eviction", f"{lost}; set maxmemory-policy noeviction")


def _role_row(role: object) -> Row:
    match role:
        case "slave" | "replica":
            detail = "a replica takes no writes; name the primary"
        case "cluster":
            detail = "one node of a Cluster; name it as redis+cluster://host:port"
        case _:
            return Row(Verdict.RIGHT, "redis role", "primary")
    return Row(Verdict.WRONG, "redis role", detail)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _print(rows: list[Row]) -> int:
    """Print the table and what follows from it; returns the exit status."""
    width = max(len(row.what) for row in rows)
    for row in rows:
        print(f"{row.verdict:<5}  {row.what:<{width}}  {row.detail}")
    wrong = sum(row.verdict is Verdict.WRONG for row in rows)
    print(f"\n{_count(wrong, 'fault')}" if wrong else "\nnothing is wrong")
    return 1 if wrong else 0
