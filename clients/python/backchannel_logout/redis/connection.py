"""A Redis URL, or a client that the app has, as a connection that gives up in time.

    redis://[user:password@]host:port/db                  one server
    rediss://...                                          with TLS; options as ssl_ca_certs=...
    unix://[user:password@]/path/to.sock
    redis+sentinel://[user:password@]host:port,host:port/service/db
    redis+cluster://[user:password@]host:port,host:port
    rediss+sentinel://, rediss+cluster://                 the same with TLS

Sentinels with credentials of their own take ``?sentinel_username=`` and ``sentinel_password=``.
Always the primary: a replica may not have the marker yet.
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
Command = tuple[str | int, ...]

_MANY_HOSTS = re.compile(r"(rediss?)\+(sentinel|cluster)://(?:([^@/?]*)@)?([^/?@]+)([^?]*)(\?.*)?")

_PORTS = {"sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True)
class _Many:
    """A URL that names several servers."""

    mode: str
    hosts: tuple[tuple[str, int], ...]
    service: str
    options: dict[str, Any]
    sentinel_options: dict[str, Any]


def connect(url: str, *, timeout: float, **options: Any) -> SyncClient:
    """A client for threads; ``timeout`` (seconds) bounds each wait for a socket.

    Raises ``ValueError`` for a URL of another form.
    """
    waits = internals.options(timeout) | options
    many = _parse_many(url)
    if many is None:
        return redis.Redis.from_url(url, **waits)
    if many.mode == "cluster":
        nodes = [redis.cluster.ClusterNode(host, port) for host, port in many.hosts]
        waits = internals.cluster_options(timeout) | options
        return redis.RedisCluster(startup_nodes=nodes, **(waits | many.options))
    sentinel = NewestPrimary(  # type: ignore[no-untyped-call]
        many.hosts, sentinel_kwargs=waits | many.sentinel_options, **(waits | many.options)
    )
    client: redis.Redis = sentinel.master_for(many.service)  # type: ignore[no-untyped-call]
    return client


def connect_async(url: str, *, timeout: float, **options: Any) -> AsyncClient:
    """A client for asyncio; see `connect`."""
    waits = internals.async_options(timeout) | options
    many = _parse_many(url)
    if many is None:
        client = redis.asyncio.Redis.from_url(url, **waits)
        if client.connection_pool.connection_class is redis.asyncio.SSLConnection:
            client.connection_pool.connection_class = _EncryptedConnection
        return client
    if many.mode == "cluster":
        nodes = [redis.asyncio.cluster.ClusterNode(host, port) for host, port in many.hosts]
        waits = internals.async_cluster_options(timeout) | options
        return redis.asyncio.RedisCluster(startup_nodes=nodes, **(waits | many.options))
    sentinel = NewestPrimaryAsync(  # type: ignore[no-untyped-call]
        many.hosts, sentinel_kwargs=waits | many.sentinel_options, **(waits | many.options)
    )
    primary: redis.asyncio.Redis = sentinel.master_for(many.service)
    return primary


class _EncryptedConnection(redis.asyncio.SSLConnection):
    """One that does not wait for the other side's good-bye where it is given up.

    TLS closes in both directions: an event loop that ends soon after would leave the socket open.
    """

    async def disconnect(self, nowait: bool = False, *args: Any, **reasons: Any) -> None:
        if nowait and self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(nowait, *args, **reasons)


def check_url(url: str) -> None:
    """Raises ``ValueError``, or what the library raises, for a URL that `connect` can not use.

    Connects to nothing.
    """
    many = _parse_many(url)
    options = many.options if many is not None else {}
    if many is None:
        redis.ConnectionPool.from_url(url).make_connection()
    elif options.pop("ssl", False):
        redis.SSLConnection(**options)
    else:
        redis.Connection(**options)


def in_time(client: SyncClient, *, timeout: float) -> SyncClient:
    """A client like the app's own, to the same servers, that gives up after ``timeout``.

    With connections of its own: the app's may wait for as long as the app likes. A Cluster
    client is taken as it is, with the waits that the app has given it.
    """
    if isinstance(client, redis.RedisCluster):
        return client
    pool = internals.pool_like(client.connection_pool, **internals.options(timeout))
    return redis.Redis.from_pool(pool)


def like_async(client: AsyncClient, *, timeout: float) -> AsyncClient:
    """A client like the app's own, to the same servers, with connections of its own.

    Its answers are bytes: one that is no text must not be a fault of the library's. A Cluster
    client is taken as it is.
    """
    if isinstance(client, redis.asyncio.RedisCluster):
        return client
    options = internals.async_options(timeout) | {"decode_responses": False}
    return redis.asyncio.Redis.from_pool(internals.pool_like(client.connection_pool, **options))


def renew(client: SyncClient) -> None:
    """Have every connection made anew, to the primary as it is then; questions under way end."""
    if isinstance(client, redis.RedisCluster):
        client.nodes_manager.initialize()
    else:
        internals.renew(client.connection_pool)


async def renew_async(client: AsyncClient) -> None:
    """`renew`, for asyncio. A Cluster client finds the primary by itself."""
    if not isinstance(client, redis.asyncio.RedisCluster):
        await internals.renew_async(client.connection_pool)


def close(client: SyncClient) -> None:
    """Close a client that `connect` or `in_time` made."""
    for sentinel in _sentinels(client):
        sentinel.close()
    client.close()


async def aclose(client: AsyncClient) -> None:
    """Close a client that `connect_async` made."""
    for sentinel in _sentinels(client):
        await sentinel.aclose()
    await client.aclose()


def _sentinels(client: Any) -> list[Any]:
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return list(manager.sentinels) if manager is not None else []


def _parse_many(url: str) -> _Many | None:
    """Take a URL with several hosts apart; None for one that the library reads itself."""
    if "+" not in url.partition("://")[0]:
        return None
    match = _MANY_HOSTS.fullmatch(url)
    if not match:
        raise ValueError("not a Redis URL with several hosts")
    scheme, mode, user, netloc, path, query = match.groups("")
    hosts = tuple(_host(one, _PORTS[mode]) for one in netloc.split(","))
    service, _, db = path.strip("/").partition("/")
    if (mode == "sentinel") != bool(service) or (db and not db.isdecimal()):
        raise ValueError("a Sentinel URL ends in /service or /service/db, a Cluster URL in nothing")
    options: dict[str, Any] = dict(parse_url(f"{scheme}://{user and user + '@'}host/{db}{query}"))
    for name in ("host", "port"):
        options.pop(name, None)
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    sentinel_options = {name: value for name, value in options.items() if name.startswith("ssl")}
    for name in ("username", "password"):
        if (value := options.pop(f"sentinel_{name}", None)) is not None:
            sentinel_options[name] = value
    return _Many(mode, hosts, service, options, sentinel_options)


def _host(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host of the Redis URL is empty")
    return parts.hostname, parts.port or default_port
