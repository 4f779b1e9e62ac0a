"""Well-behaved providers that send logouts at a steady rate and record the answers."""

import asyncio
import ssl
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Self

import httpx

from tests.support.providers.provider import Provider


@dataclass(frozen=True, slots=True)
class SentLogout:
    """One logout token: when it was sent and answered (monotonic), and the answer's status."""

    id: str
    sid: str
    began: float
    ended: float
    status: int | None
    """None without an answer, or with a broken one."""

    @property
    def is_accepted(self) -> bool:
        return self.status == 200


class LogoutLoad:
    """``senders`` in parallel, in a thread, which together send ``rate`` tokens per second. Every
    second sender keeps its connection; the others open one per token, as most providers do."""

    def __init__(self, url: str, provider: Provider, *, rate: float, senders: int = 16) -> None:
        self._url = url
        self._provider = provider
        self._senders = senders
        self._pause = senders / rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.sent: list[SentLogout] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    @property
    def accepted(self) -> list[SentLogout]:
        return [logout for logout in self.sent if logout.is_accepted]

    @property
    def failed(self) -> list[SentLogout]:
        return [logout for logout in self.sent if not logout.is_accepted]

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._senders):
                group.create_task(self._send(number))

    async def _send(self, number: int) -> None:
        await asyncio.sleep(self._pause * number / self._senders)
        limits = httpx.Limits(max_keepalive_connections=number % 2)
        # Plain HTTP without a proxy: loading no certificates saves time.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with httpx.AsyncClient(
            trust_env=False, verify=context, timeout=10, limits=limits
        ) as http:
            while not self._stop.is_set():
                began = time.monotonic()
                self.sent.append(await self._send_token(http, uuid.uuid4().hex))
                await asyncio.sleep(max(0.0, began + self._pause - time.monotonic()))

    async def _send_token(self, http: httpx.AsyncClient, name: str) -> SentLogout:
        token = self._provider.token(sid=name)
        began = time.monotonic()
        status: int | None = None
        try:
            answer = await http.post(
                self._url, data={"logout_token": token}, headers={"X-Request-Id": name}
            )
            status = answer.status_code
        except httpx.TransportError:
            pass
        return SentLogout(name, name, began, time.monotonic(), status)
