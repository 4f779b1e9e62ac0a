"""The differences between redis-py 5.2 and 8, and everything that has no public name in it.

No other module of this package or of the receiver checks the installed release or uses a private
member of redis-py. `tests/client/redis/test_internals.py` fails when a member moves.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import redis
import redis.asyncio
import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.connection
import redis.sentinel
from redis._parsers import _AsyncHiredisParser
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
    """The names of the options that a class or one of its bases accepts."""
    return frozenset(
        name
        for base in kind.__mro__
        for name in inspect.signature(base.__init__).parameters  # type: ignore[misc]
    )


_MAJOR = int(redis.__version__.partition(".")[0])

_FOR_THREADS = _accepted(redis.connection.AbstractConnection)
_FOR_ASYNCIO = _accepted(redis.asyncio.connection.AbstractConnection)
_FOR_ASYNC_CLUSTER = _accepted(redis.asyncio.RedisCluster)

# 5.2 requires a command name, which nothing uses; later releases warn about one.
_GET_CONNECTION = inspect.signature(redis.asyncio.ConnectionPool.get_connection)
_NEEDS_COMMAND = _GET_CONNECTION.parameters["command_name"].default is inspect.Parameter.empty


# -- options -------------------------------------------------------------------------------


def options(timeout: float) -> dict[str, Any]:
    """Connection options for threads; ``timeout`` (seconds) bounds each wait for a socket."""
    return _options(_FOR_THREADS, timeout, Retry(NoBackoff(), 0))


def cluster_options(timeout: float) -> dict[str, Any]:
    """`options`, for a Cluster client."""
    chosen = options(timeout)
    if _MAJOR < 8:  # these speak RESP2, where the option is refused
        chosen.pop("maint_notifications_config", None)
    return chosen


def async_options(timeout: float) -> dict[str, Any]:
    """`options`, for asyncio."""
    return _options(_FOR_ASYNCIO, timeout, AsyncRetry(NoBackoff(), 0))


def async_cluster_options(timeout: float) -> dict[str, Any]:
    """`options`, for an asyncio Cluster client, which refuses options that it does not know."""
    return _options(_FOR_ASYNC_CLUSTER, timeout, AsyncRetry(NoBackoff(), 0))


def _options(accepted: frozenset[str], timeout: float, retry: object) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        # redis-py's default of ten retries turns one second into fourteen.
        "retry": retry,
    }
    # These send commands on each new connection, which an ACL may not allow.
    if "driver_info" in accepted:  # from 7.2 on; the older names cause a warning there
        chosen["driver_info"] = None
    else:
        chosen |= {"lib_name": None, "lib_version": None}
    if "maint_notifications_config" in accepted:
        chosen["maint_notifications_config"] = _NO_MAINTENANCE
    return chosen


# -- pools ---------------------------------------------------------------------------------


def pool_like(pool: Any, **changed: Any) -> Any:
    """A pool of the same class, to the same servers, with its own connections.

    ``changed`` holds the options that differ.
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


async def connection_of(pool: redis.asyncio.ConnectionPool) -> Any:
    """A connected connection of the pool, which `pool.release` takes back."""
    if _NEEDS_COMMAND:
        return await pool.get_connection("_")
    return await pool.get_connection()


def renew(pool: Any) -> None:
    """Replace every connection of the pool; one in use is replaced after its reply."""
    if hasattr(pool, "update_active_connections_for_reconnect"):  # from 7 on
        pool.update_active_connections_for_reconnect()
    else:
        _stale(pool).update(pool._in_use_connections)  # noqa: SLF001
    for idle in list(_idle_connections(pool)):
        idle.disconnect()
        pool._available_connections.append(idle)  # noqa: SLF001  the pool counts what it made


async def renew_async(pool: Any) -> None:
    """`renew`, for asyncio."""
    if hasattr(pool, "update_active_connections_for_reconnect"):
        await pool.update_active_connections_for_reconnect()
    else:
        _stale_async(pool).update(pool._in_use_connections)  # noqa: SLF001
    for idle in _idle_connections(pool):
        await idle.disconnect()


def _idle_connections(pool: Any) -> Iterator[Any]:
    """Take the idle connections out of the pool. Its own ``disconnect`` leaves them there, where a
    command could pick one that is about to close."""
    while True:
        try:
            yield pool._available_connections.pop()  # noqa: SLF001
        except IndexError:
            return


def _stale(pool: Any) -> set[Any]:
    """The connections that the pool closes when they are released."""
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


# -- one connection ------------------------------------------------------------------------


class Wire(NamedTuple):
    """The members of one connected connection that have no public name, fetched once."""

    write: Callable[[Iterable[bytes]], Awaitable[None]]
    """``send_packed_command`` reconnects, runs each write in a task with a deadline, and can lose a
    cancellation in Python 3.11 (``asyncio.wait_for``)."""
    read: Callable[[], Awaitable[Any]]
    """The next reply, an error as a value. The connection's ``read_response`` has a deadline for
    each reply, which costs more than the reply."""
    abort: Callable[[], None]
    """Drops the connection at once, so that a pending read fails."""
    at_eof: Callable[[], bool]
    """Whether the server has closed the connection, as far as is known."""
    should_reconnect: Callable[[], bool]
    """Whether its pool was told to replace it, as after a failover."""


def wire_of(connection: Any) -> Wire:
    return Wire(
        write=connection._send_packed_command,  # noqa: SLF001
        read=connection._parser.read_response,  # noqa: SLF001
        abort=connection._writer.transport.abort,  # noqa: SLF001
        at_eof=connection._reader.at_eof,  # noqa: SLF001
        should_reconnect=getattr(connection, "should_reconnect", _never),  # from 7 on
    )


def _never() -> bool:
    return False


async def has_unread_data(connection: Any) -> bool:
    """Whether an idle connection has data to read, or was closed by the server."""
    # Before 8 the name is another one, which may read the data and raises at the end.
    look = getattr(connection, "can_read", None) or connection.can_read_destructive
    try:
        return bool(await look())
    except (redis.ConnectionError, OSError):
        return True


class AbortingTlsConnection(redis.asyncio.SSLConnection):
    """Closes without waiting for the other side's close_notify when it is dropped.

    TLS closes in both directions: an event loop that ends soon after would leave the socket open.
    """

    async def disconnect(self, nowait: bool = False, *args: Any, **reasons: Any) -> None:
        if nowait and self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(nowait, *args, **reasons)


class AnswerTooLarge(redis.ConnectionError):
    """A reply exceeded the limit; its connection is closed."""


class BoundedParser(_AsyncHiredisParser):
    """hiredis's parser with a limit on the size of one reply, in `max_bytes`.

    Apps write to Redis too, and a value may have 512 MB: a reply is held in memory until it is
    complete.
    """

    __slots__ = ("_received",)

    max_bytes: ClassVar[int] = 16 << 20
    """Five hundred stream entries are at most some 2 MB."""

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size=socket_read_size)
        self._received = 0

    async def read_from_socket(self) -> Any:
        stream, reader = self._stream, self._reader
        buffer = await stream.read(self._read_size) if stream is not None else b""
        if not buffer or reader is None:
            raise redis.ConnectionError("Connection closed by server.")
        self._received += len(buffer)
        if self._received > self.max_bytes:
            self._reader = None  # frees the partial reply; the next connection makes a new reader
            raise AnswerTooLarge("a reply is too large")
        reader.feed(buffer)
        return True

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        finally:
            self._received = 0
