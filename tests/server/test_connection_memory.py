"""A connection that has ended leaves nothing for the garbage collector."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from uvicorn import Config

from app.server.connection_limits import ConnectionLimits, Connections, LimitedHttp
from app.server.uvicorn_internals import ServerState

CONNECTIONS = 20

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n"

ENDS = {
    "after its answer": REQUEST + b"Connection: close\r\n\r\n",
    "broken": b"no http\r\n\r\n",
    "by the client": REQUEST + b"\r\n",
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def no_content(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("sent", ENDS.values(), ids=ENDS)
async def test_connections_that_have_ended_leave_no_cycle(sent: bytes) -> None:
    """Otherwise their memory stays until the next full collection."""
    config = Config(no_content, ws="none", lifespan="off", log_config=None)
    config.load()
    connections, state = Connections(ConnectionLimits(100, 32768, 5, 5)), ServerState()
    made: list[weakref.ref[LimitedHttp]] = []

    def new() -> LimitedHttp:
        connection = LimitedHttp(
            config=config, server_state=state, app_state={}, connections=connections
        )
        made.append(weakref.ref(connection))
        return connection

    loop = asyncio.get_running_loop()
    async with await loop.create_server(new, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        for _ in range(CONNECTIONS):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(sent)
            await reader.readline()
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(60):
            while len(connections):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)  # for the last callbacks
    assert [reference() for reference in made] == [None] * CONNECTIONS
