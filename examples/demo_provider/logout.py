"""Ends a session and sends logout tokens to its clients (Back-Channel Logout 1.0, section 2.5)."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from .config import Client, Config
from .sessions import Session, Sessions
from .tokens import Signer

# The timeout of Auth0 and Keycloak.
DELIVERY_SECONDS = 5.0

# Bounded, because the provider may run for days.
MAX_DELIVERIES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutDelivery:
    """One logout token that was POSTed, and its answer."""

    client_id: str
    user_id: str
    session_id: str
    sent_at: float
    """Epoch seconds."""
    milliseconds: float
    """From sending to the answer, or to giving up."""
    status: int | None
    """The HTTP status, or None without an answer."""
    error: str | None = None
    """The reason for no answer."""


class Logouts:
    """Ends sessions. Every delivery is tried once and recorded in ``deliveries``."""

    def __init__(
        self,
        config: Config,
        sessions: Sessions,
        signer: Signer,
        http: httpx.AsyncClient,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._sessions = sessions
        self._signer = signer
        self._http = http
        self._clock = clock
        self._pending: set[asyncio.Task[None]] = set()
        self.deliveries: deque[LogoutDelivery] = deque(maxlen=MAX_DELIVERIES)

    def end(self, session_id: str) -> asyncio.Task[None] | None:
        """Ends a session at once. The returned task ends after all deliveries.

        None if there is no such session. Callers need not await the task.
        """
        session = self._sessions.remove(session_id)
        if session is None:
            return None
        task = asyncio.create_task(self._notify_clients(session))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return task

    async def finish(self) -> None:
        """Waits for the deliveries in progress."""
        await asyncio.gather(*self._pending)

    async def _notify_clients(self, session: Session) -> None:
        clients = map(self._config.client, session.client_ids)
        notified = [client for client in clients if client and client.backchannel_logout_uri]
        self.deliveries.extend(
            await asyncio.gather(*(self._deliver(session, client) for client in notified))
        )

    async def _deliver(self, session: Session, client: Client) -> LogoutDelivery:
        token = self._signer.logout_token(
            client_id=client.client_id, user_id=session.user_id, sid=session.id
        )
        sent_at, start = self._clock(), time.perf_counter()
        status, error = None, None
        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                answer = await self._http.post(
                    client.backchannel_logout_uri, data={"logout_token": token}
                )
            status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as fault:
            error = type(fault).__name__
        return LogoutDelivery(
            client_id=client.client_id,
            user_id=session.user_id,
            session_id=session.id,
            sent_at=sent_at,
            milliseconds=round((time.perf_counter() - start) * 1000, 1),
            status=status,
            error=error,
        )
