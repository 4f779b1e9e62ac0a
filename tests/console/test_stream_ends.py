"""A stream opened with a cookie ends with its session, whatever its headers are."""

import asyncio
from typing import Any

import pytest

from app.console.sign_in.operator_sessions import OperatorSessions, WithOperator


@pytest.mark.parametrize("accept", [b"text/event-stream", b"*/*"])
@pytest.mark.parametrize("path", ["/api/feed", "/console/presence"])
async def test_a_stream_ends_with_its_session(path: str, accept: bytes) -> None:
    signed_in = OperatorSessions()
    session = signed_in.find(signed_in.begin("ada"))
    sent: list[Any] = []

    async def forever(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    async def receive() -> Any:
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": path, "session": session,
        "headers": [(b"accept", accept)], "client": ("192.0.2.7", 1),
    }  # fmt: skip
    answering = asyncio.create_task(WithOperator(forever, signed_in)(scope, receive, send))
    await asyncio.sleep(0.05)
    assert not answering.done()
    session.clear()
    await asyncio.wait_for(answering, 60)
    assert not sent[-1]["more_body"]
