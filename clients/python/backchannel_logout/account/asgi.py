"""Users' own sessions in an ASGI app (Starlette, FastAPI), behind its session middleware:

Mount("/account", account_app("http://receiver:9100", token=...))
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from backchannel_logout.account import AccountProxy

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Each page that waits for a termination occupies one; further pages wait.
_THREADS = 32


def account_app(url: str, token: str) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """An app to mount; it needs ``scope["session"]``."""
    proxy = AccountProxy(url, token)
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="account")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("users' own sessions are only served over HTTP")
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        path = _path_in_mount(scope)
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(
            threads,
            lambda: proxy.answer(
                scope["method"], path, scope["session"], headers,
                mounted=scope.get("root_path", ""), streams=True,
            ),
        )  # fmt: skip
        sent = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": sent})
        if answer.stream is not None:
            await _stream(answer.stream, threads, receive, send)
        await send({"type": "http.response.body", "body": answer.body})

    return app


async def _stream(
    parts: Iterator[bytes], threads: ThreadPoolExecutor, receive: Receive, send: Send
) -> None:
    """Send parts until the stream ends or the browser disconnects, which the server only reports to
    `receive`: a thread must not wait for a closed page."""
    loop = asyncio.get_running_loop()
    next_part: asyncio.Future[bytes] | None = None
    disconnect = asyncio.ensure_future(_disconnected(receive))
    try:
        while True:
            next_part = loop.run_in_executor(threads, next, parts, b"")
            either: set[asyncio.Future[Any]] = {next_part, disconnect}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            part = next_part.result() if next_part.done() else b""
            if disconnect.done() or not part:
                return
            await send({"type": "http.response.body", "body": part, "more_body": True})
    finally:
        disconnect.cancel()
        # The thread may still be reading; close the connection afterwards.
        close = getattr(parts, "close", None)
        if close is not None and next_part is not None:
            if next_part.done():
                close()
            else:
                next_part.add_done_callback(lambda _: close())


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _path_in_mount(scope: Scope) -> str:
    """The path below the mount, as it was sent."""
    raw = scope.get("raw_path") or scope["path"].encode()
    path: str = raw.decode("latin-1")
    return path.removeprefix(scope.get("root_path", ""))
