"""The connection to Redis, with the library's own ideas of time and patience switched off."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

# A write that takes longer than this has failed. It leaves the rest of a request's 1.8 s for
# the answer.
REDIS_SECONDS = 1.0

# One pod's writes at full load need far fewer; a Redis that hangs must not cost a connection
# for each request that waits.
MOST_CONNECTIONS = 128


def connect(url: str) -> Redis:
    """A client for ``url``; connects at the first command.

    No retries of the library's own: its default of ten turns a one-second timeout into
    fourteen. No maintenance notifications: they cost a command for each connection, and
    Valkey does not know them.
    """
    client: Redis = Redis.from_url(
        url,
        socket_timeout=REDIS_SECONDS,
        socket_connect_timeout=REDIS_SECONDS,
        retry=Retry(NoBackoff(), 0),
        max_connections=MOST_CONNECTIONS,
        client_name="backchannel-logout-receiver",
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return client
