"""Rows about Redis: the state of each server, and the level of durability."""

import asyncio
import contextlib
from collections.abc import Iterable
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

from app.cli.check.redis_access import access_rows
from app.cli.table import CheckVerdict, Row, count
from app.config.model import Settings
from app.config.types import Durability
from app.devtools.embedded_redis import EmbeddedFault, find_server
from app.store.errors import level_fault
from app.store.server_info import facts_of
from app.store.topology import REDIS_SECONDS, connect
from backchannel_logout.redis.connection import AsyncClient, aclose


async def redis_rows(settings: Settings) -> list[Row]:
    if settings.embedded:
        try:
            return [Row(CheckVerdict.RIGHT, "redis", f"embedded: {find_server()}")]
        except EmbeddedFault as fault:
            return [Row(CheckVerdict.WRONG, "redis", str(fault))]
    url = settings.redis_url.get_secret_value()
    what = f"redis {_address(url)}"
    redis = connect(url)
    try:
        async with asyncio.timeout(REDIS_SECONDS * 3):
            infos = await _infos(redis, what)
            durability = await _durability_row(redis, settings.durability)
            access = await access_rows(redis, url)
    except AuthenticationError:
        return [Row(CheckVerdict.WRONG, what, "refuses this user or password")]
    except ResponseError:
        return [Row(CheckVerdict.UNKNOWN, what, "answers, but this user may not run INFO")]
    except (RedisTimeoutError, TimeoutError):
        return [Row(CheckVerdict.WRONG, what, "does not answer in time")]
    except (RedisError, RedisClusterException, OSError) as error:
        return [Row(CheckVerdict.WRONG, what, f"cannot be reached ({type(error).__name__})")]
    finally:
        with contextlib.suppress(RedisError, RedisClusterException, OSError):
            await aclose(redis)
    servers = (row for server, info in infos for row in _info_rows(server, info))
    return [*servers, *access, durability]


async def _infos(redis: AsyncClient, what: str) -> list[tuple[str, dict[str, Any]]]:
    """INFO of each primary; there are several only in a Cluster."""
    if isinstance(redis, RedisCluster):
        await redis.initialize()
        nodes = sorted(redis.get_primaries(), key=lambda node: node.name)
        return [(f"redis {node.name}", await redis.info(target_nodes=node)) for node in nodes]
    info = await redis.info()
    if "cluster" in (info.get("redis_mode"), info.get("server_mode")):
        info["role"] = "cluster"
    return [(what, info)]


async def _never_synced(redis: Any) -> bool:
    """Whether the append-only file is never synced; False if this cannot be read."""
    try:
        found = await redis.config_get("appendfsync")
    except ResponseError:
        return False
    return "no" in found.values()


def _address(url: str) -> str:
    """The address in the URL, without user, password and options."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    place = rest.rpartition("@")[2].rstrip("/")
    if "+" in scheme or scheme == "unix":
        return place
    host, slash, db = place.partition("/")
    return f"{host if urlsplit(f'//{host}').port else f'{host}:6379'}{slash}{db}"


def _info_rows(what: str, info: dict[str, Any]) -> Iterable[Row]:
    for fact in facts_of(info):
        verdict = {True: CheckVerdict.WRONG, False: CheckVerdict.RIGHT, None: CheckVerdict.UNKNOWN}[
            fact.fault
        ]
        if verdict is CheckVerdict.WRONG and not fact.grave:
            verdict = CheckVerdict.WARNING
        yield Row(verdict, f"redis {fact.what}" if fact.what else what, fact.detail)


async def _durability_row(redis: AsyncClient, durability: Durability) -> Row:
    """Whether the configured level can be reached; writes nothing."""
    what, level = "durability", durability.level
    if level == "memory":
        return Row(CheckVerdict.RIGHT, what, "memory: a 200 needs no fsync and no replica")
    if isinstance(redis, RedisCluster):
        return Row(CheckVerdict.UNKNOWN, what, f"{level}: not looked at in a Cluster")
    try:
        if level == "fsync":
            await redis.execute_command("WAITAOF", 1, 0, 1)
            if await _never_synced(redis):
                return Row(CheckVerdict.WRONG, what, "fsync: appendfsync is no; set it to everysec")
            return Row(CheckVerdict.RIGHT, what, "fsync: the server knows WAITAOF")
        found = await redis.execute_command("WAIT", durability.replicas, 1)
    except ResponseError as error:
        return Row(
            CheckVerdict.WRONG, what, f"{level} cannot be reached here: {level_fault(error)}"
        )
    wanted = f"replicas:{durability.replicas}"
    if found >= durability.replicas:
        return Row(CheckVerdict.RIGHT, what, f"{wanted}: {count(found, 'replica')} up to date")
    return Row(CheckVerdict.WRONG, what, f"{wanted}: {count(found, 'replica')} up to date")
