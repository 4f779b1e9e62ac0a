"""`/api`: what operators can ask and do, as JSON. Put together here; each part has its own file.

Behind the gate of `app.admin.access`: without an ``admin_token`` or ``admin_oidc`` there is no API.
"""

import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.audit import Act
from app.history import History
from app.history.reading import Reading
from app.publish.publisher import Publisher
from app.sessions.ending import Ending
from app.sessions.endings import Endings
from app.sessions.interface import SessionProvider
from app.settings import Settings

from . import asked
from .access import Access, Gate
from .faults import ApiFault
from .feed import FeedRoutes
from .health import Body
from .openapi import document
from .overview import OverviewRoutes
from .records import Records
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
        providers: Mapping[str, SessionProvider],
        *,
        health: Callable[[], Awaitable[Body]],
        stopping: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        link = publisher.link
        history, reading = History(settings, link, clock=clock), Reading(link)
        self.access = Access(token, settings.admin_hosts)
        self.history = history
        self.providers = providers
        self.health = health
        self.stopping = stopping
        self.records = Records(settings, link.client, clock)
        self.endings = Endings(
            reading,
            publisher.writer,
            providers,
            {issuer.issuer: issuer for issuer in settings.issuers},
            confirm_within=settings.confirm_within,
            me=f"{socket.gethostname()}-{os.getpid()}",
            on_over=self._note_end,
            clock=clock,
        )
        self.session_acts = SessionActs(providers, self.endings, history, self.records)
        parts = (
            SessionRoutes(self.session_acts, history, self.records),
            RevocationRoutes(history, publisher.writer, self.records),
            OverviewRoutes(history, providers, health),
            FeedRoutes(history, self.records, stopping),
        )
        routes = [route for part in parts for route in part.routes]
        routes.append(resource("/api/openapi.json", GET=_openapi))
        handlers = {ApiFault: _refused, HTTPException: _http_error, Exception: _internal}
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False
        self.app: ASGIApp = Gate(self.access, _by_sent_path(app))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the endings that were begun."""
        async with self.endings.running():
            yield

    async def _note_end(self, ending: Ending) -> None:
        await self.records.note(
            Act(
                act="session.ended",
                who=ending.who,
                outcome=ending.step.value,
                iss=ending.issuer,
                apps=ending.apps,
                sid=ending.session,
                sub=ending.user,
            )
        )


def _by_sent_path(app: ASGIApp) -> ASGIApp:
    """The routes see the path as it was sent: a decoded ``%2F`` would be a slash of theirs."""

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"].decode("ascii", "replace")
        await app({**scope, "path": path}, receive, send)

    return routed


async def _openapi(request: Request) -> Response:
    asked.query(request, [])
    return JSONResponse(document())


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, ApiFault):
        raise error
    return error.response()


async def _http_error(_: Request, error: Exception) -> Response:
    """404 and 405 of the router, in the form of the other answers."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code, sentence = {
        404: ("not_found", "there is no such path"),
        405: ("method_not_allowed", "this path does not know the method"),
    }.get(status, ("invalid_request", "the request can not be answered"))
    fault = ApiFault(status, code, sentence)
    fault.headers |= getattr(error, "headers", None) or {}
    return fault.response()


async def _internal(_: Request, __: Exception) -> Response:
    return ApiFault(500, "internal", "an unexpected fault; the log says more").response()
