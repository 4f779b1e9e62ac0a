"""What differs between releases of redis-py, 5.2 to 8, and what it has no public name for.

Nothing else in this package asks which release is installed, or for a private member of its.
"""

import inspect
from collections.abc import Iterator
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.connection
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

try:
    from redis.maint_notifications import MaintNotificationsConfig
except ImportError:  # before 7
    _NO_MAINTENANCE = None
else:
    _NO_MAINTENANCE = MaintNotificationsConfig(enabled=False)


def _accepted(kind: type) -> frozenset[str]:
    """The names of the options that a class, or one that it extends, takes."""
    return frozenset(
        name
        for one in kind.__mro__
        for name in inspect.signature(one.__init__).parameters  # type: ignore[misc]
    )


_MAJOR = int(redis.__version__.partition(".")[0])

_FOR_THREADS = _accepted(redis.connection.AbstractConnection)
_FOR_ASYNCIO = _accepted(redis.asyncio.connection.AbstractConnection)
_FOR_ASYNC_CLUSTER = _accepted(redis.asyncio.RedisCluster)


def options(timeout: float) -> dict[str, Any]:
    """The options of our connections for threads; ``timeout`` (seconds) bounds each wait."""
    return _options(_FOR_THREADS, timeout, Retry(NoBackoff(), 0))


def cluster_options(timeout: float) -> dict[str, Any]:
    """`options`, for a Cluster client."""
    chosen = options(timeout)
    if _MAJOR < 8:  # which speaks RESP2, and refuses this there
        chosen.pop("maint_notifications_config", None)
    return chosen


def async_options(timeout: float) -> dict[str, Any]:
    """`options`, for asyncio."""
    return _options(_FOR_ASYNCIO, timeout, AsyncRetry(NoBackoff(), 0))


def async_cluster_options(timeout: float) -> dict[str, Any]:
    """`options`, for a Cluster client of asyncio: it refuses what it does not know."""
    return _options(_FOR_ASYNC_CLUSTER, timeout, AsyncRetry(NoBackoff(), 0))


def _options(accepted: frozenset[str], timeout: float, retry: object) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # No retries of the library's own: its default of ten turns a second into fourteen.
        "retry": retry,
    }
    # These cost commands for each connection, which an ACL user may not be allowed.
    if "driver_info" in accepted:  # from 7.2 on; the names it replaces give a warning there
        chosen["driver_info"] = None
    else:
        chosen |= {"lib_name": None, "lib_version": None}
    if "maint_notifications_config" in accepted:
        chosen["maint_notifications_config"] = _NO_MAINTENANCE
    return chosen


def pool_like(pool: Any, **changed: Any) -> Any:
    """A pool of the same class, to the same servers, with connections of its own.

    ``changed`` are options that differ.
    """
    chosen = {k: v for k, v in pool.connection_kwargs.items() if k != "connection_pool"}
    if "driver_info" in changed:
        chosen.pop("lib_name", None)
        chosen.pop("lib_version", None)
    chosen |= {"connection_class": pool.connection_class} | changed
    if isinstance(pool, redis.sentinel.SentinelConnectionPool):
        return redis.sentinel.SentinelConnectionPool(
            pool.service_name, pool.sentinel_manager, **chosen
        )
    if isinstance(pool, redis.asyncio.sentinel.SentinelConnectionPool):
        return redis.asyncio.sentinel.SentinelConnectionPool(
            pool.service_name, pool.sentinel_manager, **chosen
        )
    if isinstance(pool, redis.asyncio.ConnectionPool):
        return redis.asyncio.ConnectionPool(**chosen)
    return redis.ConnectionPool(**chosen)


def renew(pool: Any) -> None:
    """Have every connection of the pool made anew; one in use when its question is answered."""
    if hasattr(pool, "update_active_connections_for_reconnect"):  # from 7 on
        pool.update_active_connections_for_reconnect()
    else:
        _stale(pool).update(pool._in_use_connections)  # noqa: SLF001
    for idle in list(_taken_out(pool)):
        idle.disconnect()
        pool._available_connections.append(idle)  # noqa: SLF001  the pool counts what it made


async def renew_async(pool: Any) -> None:
    """`renew`, for asyncio."""
    if hasattr(pool, "update_active_connections_for_reconnect"):
        await pool.update_active_connections_for_reconnect()
    else:
        _stale_async(pool).update(pool._in_use_connections)  # noqa: SLF001
    for idle in _taken_out(pool):
        await idle.disconnect()


def _taken_out(pool: Any) -> Iterator[Any]:
    """The pool's idle connections. Its own ``disconnect`` leaves them there, where a question takes
    one that is about to close."""
    while True:
        try:
            yield pool._available_connections.pop()  # noqa: SLF001
        except IndexError:
            return


def _stale(pool: Any) -> set[Any]:
    """The connections that the pool closes when they come back."""
    if not hasattr(pool, "backchannel_logout_stale"):
        stale = pool.backchannel_logout_stale = set()
        release = pool.release

        def close_and_release(connection: Any) -> None:
            if connection in stale:
                stale.discard(connection)
                connection.disconnect()
            release(connection)

        pool.release = close_and_release
    return pool.backchannel_logout_stale  # type: ignore[no-any-return]


def _stale_async(pool: Any) -> set[Any]:
    """`_stale`, for asyncio."""
    if not hasattr(pool, "backchannel_logout_stale"):
        stale = pool.backchannel_logout_stale = set()
        release = pool.release

        async def close_and_release(connection: Any) -> None:
            if connection in stale:
                stale.discard(connection)
                await connection.disconnect()
            await release(connection)

        pool.release = close_and_release
    return pool.backchannel_logout_stale  # type: ignore[no-any-return]


async def has_something_to_read(connection: Any) -> bool:
    """Whether a connection that waits for no answer has one all the same, or has ended."""
    # Named so from 8 on; before, this one may read what is there, and raises at the end.
    look = getattr(connection, "can_read", None) or connection.can_read_destructive
    try:
        return bool(await look())
    except (redis.ConnectionError, OSError):
        return True
