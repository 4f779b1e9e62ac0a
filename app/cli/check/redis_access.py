"""Rows about access to Redis by others: without a password, or by reading the network.

A writer can end sessions and revive ended ones, so a server that is open to others is a fault.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)

from app.cli.table import CheckVerdict, Row
from app.config.types import is_loopback
from app.store.topology import RedisTopology
from backchannel_logout.redis.connection import AsyncClient

_WHAT = "redis access"
_OPEN = "no password is needed: anybody who reaches it ends sessions, and brings ended ones back"
_CURE = "set requirepass, or ACL users and `ACL SETUSER default off`"
_NOT_KNOWN = "whether a password is needed could not be found out"
_CREDENTIALS = ("username", "password", "credential_provider", "connection_pool")
_LOOPBACK = ("127.", "::1", "localhost")

_WORST_FIRST = (CheckVerdict.WRONG, CheckVerdict.UNKNOWN, CheckVerdict.RIGHT)

# Before it, a bind address switched protected mode off.
_STRICT_PROTECTED_MODE = 7


async def access_rows(redis: AsyncClient, url: str) -> list[Row]:
    """A row about passwords, and one if the connection is not encrypted."""
    try:
        servers = await RedisTopology(redis).primaries()
        rows = [await _open_to(server, url) for server in servers.values()]
    except (RedisError, RedisClusterException, OSError):
        return []  # an unreachable server has a row of its own
    worst = min(rows, key=lambda row: _WORST_FIRST.index(row.verdict))
    return [worst, *encryption_rows(url)]


def encryption_rows(url: str) -> Iterator[Row]:
    """A row if the connection crosses a network without encryption."""
    scheme = url.partition("://")[0]
    if scheme.startswith(("rediss", "unix")) or _is_local(url):
        return
    said = "not encrypted: a password, and every session id, can be read on the way; use rediss"
    yield Row(CheckVerdict.WARNING, _WHAT, said)


async def _open_to(server: Redis, url: str) -> Row:
    """Whether the server accepts clients without a password, and from where."""
    stranger = await _without_credentials(server)
    try:
        # Harmless, and refused where a password is needed.
        await stranger.exists("bcl:v1:hash_key")
        reached = await _reached_by_others(stranger)
    except (AuthenticationError, NoPermissionError):
        return Row(CheckVerdict.RIGHT, _WHAT, "a password is needed")
    except ResponseError as error:
        if str(error).startswith("DENIED"):
            return Row(CheckVerdict.RIGHT, _WHAT, "protected mode lets no other machine in")
        return Row(CheckVerdict.UNKNOWN, _WHAT, _NOT_KNOWN)
    except (RedisError, OSError):
        return Row(CheckVerdict.UNKNOWN, _WHAT, _NOT_KNOWN)
    finally:
        with contextlib.suppress(RedisError, OSError):
            await stranger.aclose()
    if reached is False:
        return Row(
            CheckVerdict.RIGHT, _WHAT, "no password is needed, and only this machine reaches it"
        )
    if reached is None and _is_local(url):
        return Row(
            CheckVerdict.UNKNOWN, _WHAT, f"{_OPEN}; whether others do, it does not say; {_CURE}"
        )
    return Row(CheckVerdict.WRONG, _WHAT, f"{_OPEN}; {_CURE}")


async def _without_credentials(server: Redis) -> Redis:
    """A client of the same server without user and password."""
    pool = server.connection_pool
    options: dict[str, Any] = {
        name: value for name, value in pool.connection_kwargs.items() if name not in _CREDENTIALS
    }
    kind = pool.connection_class
    if isinstance(pool, SentinelConnectionPool):
        options["host"], options["port"] = await pool.get_master_address()
        kind = SSLConnection if issubclass(kind, SSLConnection) else Connection
    return Redis.from_pool(ConnectionPool(connection_class=kind, **options))


async def _reached_by_others(stranger: Redis) -> bool | None:
    """Whether it listens to other machines; None if unknown."""
    try:
        answer: dict[Any, Any] = await stranger.config_get("bind", "protected-mode")
        version = (await stranger.info("server"))["redis_version"]
    except (RedisError, KeyError):
        return None
    config = {_text(name): _text(value) for name, value in answer.items()}
    places = [place.removeprefix("-") for place in config.get("bind", "").split()]
    if places and all(place.startswith(_LOOPBACK) for place in places):
        return False
    strict = int(str(version).partition(".")[0]) >= _STRICT_PROTECTED_MODE
    return not (config.get("protected-mode") == "yes" and (strict or not places))


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _is_local(url: str) -> bool:
    """Whether every host in the URL is this machine."""
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        return True
    hosts = rest.partition("?")[0].partition("/")[0].rpartition("@")[2].split(",")
    return all(is_loopback(f"http://{urlsplit('//' + host).netloc}") for host in hosts)
