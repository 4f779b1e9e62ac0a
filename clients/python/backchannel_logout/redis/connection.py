"""Redis clients that give up in time, from a URL or from the app's own client.

    redis://[user:password@]host:port/db                  one server
    rediss://...                                          with TLS; options as ssl_ca_certs=...
    unix://[user:password@]/path/to.sock
    redis+sentinel://[user:password@]host:port,host:port/service/db
    redis+cluster://[user:password@]host:port,host:port
    rediss+sentinel://, rediss+cluster://                 the same with TLS

Sentinels with their own credentials take ``?sentinel_username=`` and ``sentinel_password=``.
Commands always go to the primary: a replica may not have the marker yet.
"""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.connection import SSLConnection, parse_url

from backchannel_logout.redis import internals
from backchannel_logout.redis.sentinels import NewestPrimary, NewestPrimaryAsync

SyncClient = redis.Redis | redis.RedisCluster
AsyncClient = redis.asyncio.Redis | redis.asyncio.RedisCluster

_SEVERAL_HOSTS = re.compile(
    r"(rediss?)\+(sentinel|cluster)://(?:([^@/?]*)@)?([^/?@]+)([^?]*)(\?.*)?"
)

_PORTS = {"sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True)
class _SeveralHosts:
    """A URL that names several servers, parsed."""

    mode: str
    hosts: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, Any]
    sentinel_options: dict[str, Any]


def connect(url: str, *, timeout: float, **options: Any) -> SyncClient:
    """A client for threads; ``timeout`` (seconds) bounds each wait for a socket.

    Raises ``ValueError`` for a URL of another form.
    """
    chosen = internals.options(timeout) | options
    several = _parse_several(url)
    if several is None:
        return redis.Redis.from_url(url, **chosen)
    if several.mode == "cluster":
        nodes = [redis.cluster.ClusterNode(host, port) for host, port in several.hosts]
        chosen = internals.cluster_options(timeout) | options
        return redis.RedisCluster(startup_nodes=nodes, **(chosen | several.options))
    sentinel = NewestPrimary(  # type: ignore[no-untyped-call]
        several.hosts,
        sentinel_kwargs=chosen | several.sentinel_options,
        **(chosen | several.options),
    )
    client: redis.Redis = sentinel.master_for(several.service)  # type: ignore[no-untyped-call]
    return client


def connect_async(url: str, *, timeout: float, **options: Any) -> AsyncClient:
    """A client for asyncio; see `connect`."""
    chosen = internals.async_options(timeout) | options
    several = _parse_several(url)
    if several is None:
        client = redis.asyncio.Redis.from_url(url, **chosen)
        if client.connection_pool.connection_class is redis.asyncio.SSLConnection:
            client.connection_pool.connection_class = internals.AbortingTlsConnection
        return client
    if several.mode == "cluster":
        nodes = [redis.asyncio.cluster.ClusterNode(host, port) for host, port in several.hosts]
        chosen = internals.async_cluster_options(timeout) | options
        return redis.asyncio.RedisCluster(startup_nodes=nodes, **(chosen | several.options))
    sentinel = NewestPrimaryAsync(  # type: ignore[no-untyped-call]
        several.hosts,
        sentinel_kwargs=chosen | several.sentinel_options,
        **(chosen | several.options),
    )
    primary: redis.asyncio.Redis = sentinel.master_for(several.service)
    return primary


def check_url(url: str) -> None:
    """Raise ``ValueError``, or redis-py's exception, for a URL that `connect` cannot use.

    Opens no connection.
    """
    several = _parse_several(url)
    options = several.options if several is not None else {}
    if several is None:
        redis.ConnectionPool.from_url(url).make_connection()
    elif options.pop("ssl", False):
        redis.SSLConnection(**options)
    else:
        redis.Connection(**options)


def with_timeout(client: SyncClient, *, timeout: float) -> SyncClient:
    """A client of the same servers as the app's own, which gives up after ``timeout``.

    It has its own connections: the app's may wait as long as the app likes. A Cluster client is
    used as it is, with the app's timeouts.
    """
    if isinstance(client, redis.RedisCluster):
        return client
    pool = internals.pool_like(client.connection_pool, **internals.options(timeout))
    return redis.Redis.from_pool(pool)


def copy_async(client: AsyncClient, *, timeout: float) -> AsyncClient:
    """A client of the same servers as the app's own, with its own connections.

    Its replies are bytes: decoding a reply that is not text must not fail in the library. A
    Cluster client is used as it is.
    """
    if isinstance(client, redis.asyncio.RedisCluster):
        return client
    options = internals.async_options(timeout) | {"decode_responses": False}
    return redis.asyncio.Redis.from_pool(internals.pool_like(client.connection_pool, **options))


def renew(client: SyncClient) -> None:
    """Replace every connection by one to the current primary, after the commands in transit."""
    if isinstance(client, redis.RedisCluster):
        client.nodes_manager.initialize()
    else:
        internals.renew(client.connection_pool)


async def renew_async(client: AsyncClient) -> None:
    """`renew`, for asyncio. A Cluster client finds the primary on its own."""
    if not isinstance(client, redis.asyncio.RedisCluster):
        await internals.renew_async(client.connection_pool)


def close(client: SyncClient) -> None:
    """Close a client of `connect` or `with_timeout`."""
    for sentinel in _sentinels(client):
        sentinel.close()
    client.close()


async def aclose(client: AsyncClient) -> None:
    """Close a client of `connect_async`."""
    for sentinel in _sentinels(client):
        await sentinel.aclose()
    await client.aclose()


def pools_of(client: redis.asyncio.Redis) -> list[redis.asyncio.ConnectionPool]:
    """The connections to the primary, and those to each Sentinel."""
    return [client.connection_pool, *(each.connection_pool for each in _sentinels(client))]


def _sentinels(client: Any) -> list[Any]:
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return list(manager.sentinels) if manager is not None else []


def _parse_several(url: str) -> _SeveralHosts | None:
    """Parse a URL with several hosts; None for one that redis-py parses."""
    if "+" not in url.partition("://")[0]:
        return None
    match = _SEVERAL_HOSTS.fullmatch(url)
    if not match:
        raise ValueError("not a Redis URL with several hosts")
    scheme, mode, user, netloc, path, query = match.groups("")
    hosts = tuple(_host(text, _PORTS[mode]) for text in netloc.split(","))
    service, _, db = path.strip("/").partition("/")
    if (mode == "sentinel") != bool(service) or (db and not db.isdecimal()):
        raise ValueError(
            "a Sentinel URL ends in /service or /service/db, a Cluster URL in its hosts"
        )
    options: dict[str, Any] = dict(parse_url(f"{scheme}://{user and user + '@'}host/{db}{query}"))
    for name in ("host", "port"):
        options.pop(name, None)
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    sentinel_options = {name: value for name, value in options.items() if name.startswith("ssl")}
    for name in ("username", "password"):
        if (value := options.pop(f"sentinel_{name}", None)) is not None:
            sentinel_options[name] = value
    return _SeveralHosts(mode, hosts, service, options, sentinel_options)


def _host(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host of the Redis URL is empty")
    return parts.hostname, parts.port or default_port
