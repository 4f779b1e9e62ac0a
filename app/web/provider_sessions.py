"""The providers' session APIs and the terminations in progress, shared by operators and users.

Each termination is followed once, and its outcome is recorded under the name of its initiator.
"""

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Mapping

from app.audit import Act
from app.config.model import Settings
from app.history.app_reader import AppReader
from app.publish.publisher import Publisher
from app.sessions.providers.factory import session_provider
from app.sessions.session_provider import SessionProvider
from app.sessions.termination.termination import Termination
from app.sessions.termination.terminations import Terminations
from app.telemetry.metrics.registry import Registry, unavailable_in
from app.tokens.fetch import new_client
from app.web.audit_log import AuditLog


class ProviderSessions:
    """``providers`` holds the issuers that have a session API, by their configured name."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        providers: Mapping[str, SessionProvider],
        registry: Registry,
    ) -> None:
        self.providers = providers
        self.audit_log = AuditLog(settings, publisher.reads.client)
        self.terminations = Terminations(
            AppReader(publisher.reads),
            publisher.writer,
            providers,
            {issuer.issuer: issuer for issuer in settings.issuers},
            confirm_within=settings.confirm_within,
            process=f"{socket.gethostname()}-{os.getpid()}",
            on_over=self._record_outcome,
            count_unavailable=unavailable_in(registry),
        )

    async def _record_outcome(self, termination: Termination) -> None:
        await self.audit_log.record(
            Act(
                act="session.ended",
                who=termination.who,
                outcome=termination.phase.value,
                iss=termination.issuer,
                apps=termination.apps,
                sid=termination.session or None,
                sub=termination.user,
            )
        )


@contextlib.asynccontextmanager
async def running_sessions(
    settings: Settings, publisher: Publisher, registry: Registry
) -> AsyncIterator[ProviderSessions]:
    """Follow terminations, including those of processes that have died."""
    async with new_client() as client:
        adapters = {issuer.issuer: session_provider(issuer, client) for issuer in settings.issuers}
        providers = {name: adapter for name, adapter in adapters.items() if adapter is not None}
        sessions = ProviderSessions(settings, publisher, providers, registry)
        async with sessions.terminations.running():
            yield sessions
