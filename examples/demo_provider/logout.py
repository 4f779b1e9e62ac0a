"""Ends a session and tells the clients: Back-Channel Logout 1.0, section 2.5, from this side."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from .config import Client, Config
from .sessions import Session, Sessions
from .tokens import Signer

# What Auth0 and Keycloak wait for an answer.
DELIVERY_SECONDS = 5.0

# Enough to look at; the provider may stay up for days.
MOST_DELIVERIES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One logout token that was POSTed, and what came back."""

    client_id: str
    user_id: str
    session_id: str
    sent_at: float
    """Epoch seconds."""
    milliseconds: float
    """From sending to the answer, or to giving up."""
    status: int | None
    """The HTTP status; None when there was no answer."""
    error: str | None = None
    """Why there was none."""


class Logouts:
    """Ends sessions. Every delivery is tried once and noted in ``deliveries``."""

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
        self._under_way: set[asyncio.Task[None]] = set()
        self.deliveries: deque[Delivery] = deque(maxlen=MOST_DELIVERIES)

    def end(self, session_id: str) -> asyncio.Task[None] | None:
        """End a session at once. The task is done when every client was told.

        None when there is no such session. Nobody has to wait for the task.
        """
        session = self._sessions.remove(session_id)
        if session is None:
            return None
        task = asyncio.create_task(self._tell_clients(session))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def finish(self) -> None:
        """Wait for the deliveries that are under way."""
        await asyncio.gather(*self._under_way)

    async def _tell_clients(self, session: Session) -> None:
        clients = map(self._config.client, session.client_ids)
        told = [one for one in clients if one is not None and one.backchannel_logout_uri]
        self.deliveries.extend(
            await asyncio.gather(*(self._deliver(session, client) for client in told))
        )

    async def _deliver(self, session: Session, client: Client) -> Delivery:
        token = self._signer.logout_token(
            client_id=client.client_id, user_id=session.user_id, sid=session.id
        )
        sent_at, began = self._clock(), time.perf_counter()
        status, error = None, None
        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                answer = await self._http.post(
                    client.backchannel_logout_uri, data={"logout_token": token}
                )
            status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as fault:
            error = type(fault).__name__
        return Delivery(
            client_id=client.client_id,
            user_id=session.user_id,
            session_id=session.id,
            sent_at=sent_at,
            milliseconds=round((time.perf_counter() - began) * 1000, 1),
            status=status,
            error=error,
        )
