"""`/api`: what operators can ask and do, as JSON. Put together here; each part has its own file.

Behind the gate of `app.admin.access`: without an ``admin_token`` or ``admin_oidc`` there is no API.
"""

import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from app.history import History
from app.publish.publisher import Publisher
from app.settings import Settings

from . import asked
from .access import Access, Gate
from .feed import FeedRoutes
from .json_api import json_api
from .openapi import document
from .overview import OverviewRoutes
from .probes import Body
from .provider_sessions import ProviderSessions
from .resource import resource
from .revocations import RevocationRoutes
from .session_acts import SessionActs
from .sessions import SessionRoutes


class AdminApi:
    """Everything under `/api`. ``health`` says what `/readyz` would, ``stopping`` whether the
    service has been told to stop."""

    def __init__(
        self,
        settings: Settings,
        token: str | None,
        publisher: Publisher,
        sessions: ProviderSessions,
        *,
        health: Callable[[], Awaitable[Body]],
        stopping: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        history = History(settings, publisher.reads, clock=clock)
        self.access = Access(token, settings.admin_hosts)
        self.history = history
        self.providers, self.endings = sessions.providers, sessions.endings
        self.records = sessions.records
        self.health = health
        self.stopping = stopping
        self.session_acts = SessionActs(self.providers, self.endings, history, self.records)
        parts = (
            SessionRoutes(self.session_acts, history, self.records),
            RevocationRoutes(history, publisher.writer, self.records),
            OverviewRoutes(history, self.providers, health),
            FeedRoutes(history, self.records, stopping),
        )
        routes = [route for part in parts for route in part.routes]
        routes.append(resource("/api/openapi.json", GET=_openapi))
        self.app: ASGIApp = Gate(self.access, json_api(routes))


async def _openapi(request: Request) -> Response:
    asked.query(request, [])
    return JSONResponse(document())
