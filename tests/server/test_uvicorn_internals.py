"""uvicorn has the members that we rely on."""

import asyncio
import re
import tomllib
from pathlib import Path
from typing import Any

import uvicorn

from app.server.uvicorn_internals import (
    MEMBERS,
    FlowControl,
    HttpToolsProtocol,
    RequestResponseCycle,
    ServerState,
)

APP = Path(__file__).parents[2] / "app"

HELP = (
    "uvicorn {version} has moved {name}. Adapt app/server/uvicorn_internals.py and the modules of"
    " app/server that use it, run tests/server, and only then raise the bound in pyproject.toml."
)


async def no_content(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def live_objects() -> dict[type, object]:
    """One of each class, as uvicorn makes them for a request."""
    config = uvicorn.Config(no_content, ws="none", lifespan="off", log_config=None)
    state = ServerState()
    protocol = HttpToolsProtocol(config=config, server_state=state, app_state={})
    loop = asyncio.get_running_loop()
    made: asyncio.Future[HttpToolsProtocol] = loop.create_future()

    def connected() -> HttpToolsProtocol:
        made.set_result(protocol)
        return protocol

    async with await loop.create_server(connected, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await made
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readline()
        cycle, flow = protocol.cycle, protocol.flow
        writer.close()
    return {
        HttpToolsProtocol: protocol,
        RequestResponseCycle: cycle,
        FlowControl: flow,
        ServerState: state,
    }


async def test_every_member_that_we_rely_on_exists() -> None:
    live = await live_objects()
    for kind, names in MEMBERS.items():
        assert isinstance(live[kind], kind)
        for name in names:
            message = HELP.format(version=uvicorn.__version__, name=f"{kind.__name__}.{name}")
            assert hasattr(live[kind], name), message


def test_the_dependency_is_bounded_to_the_minor_version() -> None:
    project = tomllib.loads((APP.parent / "pyproject.toml").read_text())["project"]
    [bounds] = [line for line in project["dependencies"] if line.startswith("uvicorn")]
    low, high = (tuple(map(int, bound.split("."))) for bound in re.findall(r"\d+\.\d+", bounds))
    assert high == (low[0], low[1] + 1), bounds


def test_no_other_module_imports_private_modules_of_uvicorn() -> None:
    importing = {path.name for path in APP.rglob("*.py") if "from uvicorn." in path.read_text()}
    assert importing == {"uvicorn_internals.py"}
