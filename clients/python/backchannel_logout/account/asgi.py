"""The users' own sessions in an ASGI app (Starlette, FastAPI), behind its session middleware:

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

# Each page that waits for an end occupies one; beyond them, pages wait for their turn.
_THREADS = 32


def account_app(url: str, token: str) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """An app to be mounted; it needs ``scope["session"]``."""
    proxy = AccountProxy(url, token)
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="account")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("the users' own sessions are asked for by HTTP")
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        path = _behind(scope)
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
    """Until it ends, or the browser has left: servers only say so to who asks, and a thread for
    nobody is one less for the others."""
    loop = asyncio.get_running_loop()
    coming: asyncio.Future[bytes] | None = None
    leaving = asyncio.ensure_future(_left(receive))
    try:
        while True:
            coming = loop.run_in_executor(threads, next, parts, b"")
            either: set[asyncio.Future[Any]] = {coming, leaving}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            part = coming.result() if coming.done() else b""
            if leaving.done() or not part:
                return
            await send({"type": "http.response.body", "body": part, "more_body": True})
    finally:
        leaving.cancel()
        # The thread may still read; the connection closes when it has.
        close = getattr(parts, "close", None)
        if close is not None and coming is not None:
            if coming.done():
                close()
            else:
                coming.add_done_callback(lambda _: close())


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _behind(scope: Scope) -> str:
    """The path behind where this is mounted, as it was sent."""
    raw = scope.get("raw_path") or scope["path"].encode()
    path: str = raw.decode("latin-1")
    return path.removeprefix(scope.get("root_path", ""))
