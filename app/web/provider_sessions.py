"""The providers' sessions, as operators and users end them: one for both in a process.

What either has begun is followed once, and its outcome is in the audit under the name of who asked.
"""

import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping

from app.audit import Act
from app.config.model import Settings
from app.history.app_reader import AppReader
from app.publish.publisher import Publisher
from app.sessions.api_client.calls import new_client
from app.sessions.providers.factory import session_provider
from app.sessions.session_provider import SessionProvider
from app.sessions.termination.record import Termination
from app.sessions.termination.terminations import Terminations
from app.telemetry.metrics.registry import Registry, unavailable_in
from app.web.audit_log import AuditLog


class ProviderSessions:
    """``providers`` are by the issuer's configured name: those that have a session API."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        providers: Mapping[str, SessionProvider],
        registry: Registry,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.providers = providers
        self.records = AuditLog(settings, publisher.reads.client, clock)
        self.endings = Terminations(
            AppReader(publisher.reads),
            publisher.writer,
            providers,
            {issuer.issuer: issuer for issuer in settings.issuers},
            confirm_within=settings.confirm_within,
            process=f"{socket.gethostname()}-{os.getpid()}",
            on_over=self._note_end,
            count_unavailable=unavailable_in(registry),
            clock=clock,
        )

    async def _note_end(self, ending: Termination) -> None:
        await self.records.note(
            Act(
                act="session.ended",
                who=ending.who,
                outcome=ending.phase.value,
                iss=ending.issuer,
                apps=ending.apps,
                sid=ending.session or None,
                sub=ending.user,
            )
        )


@contextlib.asynccontextmanager
async def running_sessions(
    settings: Settings, publisher: Publisher, registry: Registry
) -> AsyncIterator[ProviderSessions]:
    """Follow the ends that were begun, here or by a process that is gone."""
    async with new_client() as client:
        found = {one.issuer: session_provider(one, client) for one in settings.issuers}
        providers = {name: one for name, one in found.items() if one is not None}
        sessions = ProviderSessions(settings, publisher, providers, registry)
        async with sessions.endings.running():
            yield sessions
