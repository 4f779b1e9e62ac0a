"""Many commands in one round trip, at the price of what they say.

The library's own pipeline does the same at four times the cost for each command, which was half
of a logout (docs/performance.md): it packs in Python, and sets up a deadline for each answer.
"""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis


async def exchange(server: Redis, commands: Sequence[bytes]) -> list[Any]:
    """Send packed commands on one connection and read the answer to each; an error is an answer.

    Sets no deadline: the caller has one for all. Raises what the library raises when there is no
    connection, or it breaks; then each command may have been executed or not.
    """
    pool = server.connection_pool
    connection: Any = await pool.get_connection()
    try:
        # Past `send_packed_command`, whose deadline is a task of its own, and which in Python 3.11
        # can lose a cancellation (asyncio.wait_for); the pool has connected it.
        await connection._send_packed_command([b"".join(commands)])  # noqa: SLF001
        # Past `read_response` of the connection, which has a deadline for each.
        read = connection._parser.read_response  # noqa: SLF001
        return [await read() for _ in commands]
    except BaseException:
        # An answer that is still on the way must never be read as another command's.
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
