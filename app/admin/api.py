"""The application of `/api`, the operators' JSON API.

It exists only with an ``admin_token`` or ``admin_oidc``, behind the gate of `app.admin.access`.
"""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from app.admin.access import Access, OperatorGate
from app.admin.feed import FeedRoutes
from app.admin.key_fetches import KeyFetchRoutes
from app.admin.openapi import document
from app.admin.overview import OverviewRoutes
from app.admin.probes import Body
from app.admin.reloads import ReloadRoutes
from app.admin.revocations import RevocationRoutes
from app.admin.session_service import SessionService
from app.admin.sessions import OperatorSessionRoutes
from app.config.model import Settings
from app.config.reload import ReloadResult
from app.history import History
from app.publish.publisher import Publisher
from app.tokens.asked_fetches import AskedFetches
from app.web import params
from app.web.json_api import json_api
from app.web.provider_sessions import ProviderSessions
from app.web.resource import resource


class AdminApi:
    """Everything under `/api`. ``reload`` is `Reload.reload`; ``health`` returns the body of
    `/readyz`, ``stopping`` whether the service has been told to stop."""

    def __init__(
        self,
        settings: Settings,
        token: str | None,
        publisher: Publisher,
        sessions: ProviderSessions,
        fetches: AskedFetches,
        *,
        reload: Callable[[str], Awaitable[ReloadResult]],
        health: Callable[[], Body],
        stopping: Callable[[], bool],
    ) -> None:
        history = History(settings, publisher.reads)
        self.access = Access(token, settings.admin_hosts)
        self.history = history
        self.providers = sessions.providers
        self.audit_log = sessions.audit_log
        self.health = health
        self.stopping = stopping
        self.session_service = SessionService(
            self.providers, sessions.terminations, history, self.audit_log
        )
        self.key_fetches = KeyFetchRoutes(history, fetches, self.audit_log)
        parts = (
            self.key_fetches,
            ReloadRoutes(reload, self.audit_log),
            OperatorSessionRoutes(self.session_service, history, self.audit_log),
            RevocationRoutes(history, publisher.writer, self.audit_log),
            OverviewRoutes(history, self.providers, health),
            FeedRoutes(history, self.audit_log, stopping),
        )
        routes = [route for part in parts for route in part.routes]
        routes.append(resource("/api/openapi.json", GET=_openapi))
        self.app: ASGIApp = OperatorGate(self.access, json_api(routes))


async def _openapi(request: Request) -> Response:
    params.query(request, [])
    return JSONResponse(document())
