"""The connection to Redis, with the library's own ideas of time and patience switched off."""

from backchannel_logout.connection import AsyncClient, connect_async

# A write that takes longer than this has failed. It leaves the rest of a request's 1.8 s for
# the answer.
REDIS_SECONDS = 1.0

# One pod's writes at full load need far fewer; a Redis that hangs must not cost a connection
# for each request that waits.
MOST_CONNECTIONS = 128


def connect(url: str) -> AsyncClient:
    """A client for ``url`` (forms: `backchannel_logout.connection`); connects when first used."""
    return connect_async(
        url,
        timeout=REDIS_SECONDS,
        max_connections=MOST_CONNECTIONS,
        client_name="backchannel-logout-receiver",
    )
