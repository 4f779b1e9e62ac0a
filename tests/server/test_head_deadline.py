"""The deadlines of connections on the fast path."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import Response
from uvicorn import Config

from app.server.connection_limits import ConnectionLimits, Connections
from app.server.fast_path import FastPathProtocol, FastRoute
from app.server.uvicorn_internals import ServerState
from tests.support.raw_http import logout_request

HEAD_SECONDS, KEEP_ALIVE = 0.2, 8

HALF_HEAD = b"POST /backchannel-logout HTTP/1.1\r\nHost: x\r\n"


async def _nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    """No request reaches ASGI."""


@pytest.mark.parametrize("together", [True, False], ids=["one segment", "two segments"])
async def test_half_a_head_that_arrives_before_the_answer_keeps_its_deadline(
    together: bool,
) -> None:
    """The answer does not give it the time of an idle connection."""
    config = Config(
        _nothing, ws="none", lifespan="off", log_config=None, timeout_keep_alive=KEEP_ALIVE
    )
    config.load()
    connections = Connections(ConnectionLimits(100, 32768, HEAD_SECONDS, 5))
    submitted: asyncio.Queue[Callable[[Response], None]] = asyncio.Queue()
    route = FastRoute(
        b"/backchannel-logout",
        lambda _type, _body, respond, _id: submitted.put_nowait(respond),
    )
    state, request = ServerState(), logout_request("a.b.c")
    made: list[FastPathProtocol] = []

    def new() -> FastPathProtocol:
        made.append(
            FastPathProtocol(
                config=config, server_state=state, app_state={}, connections=connections,
                route=route,
            )
        )  # fmt: skip
        return made[-1]

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60), await loop.create_server(new, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        idle, idle_writer = await asyncio.open_connection(*address)
        idle_writer.write(request)
        (await submitted.get())(Response())
        await idle.readuntil(b"\r\n\r\n")
        half, half_writer = await asyncio.open_connection(*address)
        half_writer.write(request + HALF_HEAD if together else request)
        respond = await submitted.get()
        if not together:
            half_writer.write(HALF_HEAD)
            while not made[-1]._head_bytes:
                await asyncio.sleep(0.001)
        respond(Response())
        await half.readuntil(b"\r\n\r\n")
        # The idle connection's time began earlier, and is longer only than that of a head.
        ends = {name: loop.create_task(_end(reader)) for name, reader in
                (("idle", idle), ("half", half))}  # fmt: skip
        await asyncio.wait(ends.values(), return_when=asyncio.FIRST_COMPLETED)
        assert ends["half"].done()
        assert not ends["idle"].done()
        for writer in (idle_writer, half_writer):
            writer.close()
        await asyncio.gather(*ends.values())


async def _end(reader: asyncio.StreamReader) -> None:
    """Return when the server ends the connection, with a FIN or a reset."""
    try:
        await reader.read()
    except ConnectionError:
        return
