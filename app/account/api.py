"""The users' listener, put together: each call is proven, counted, and asked about its session."""

import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.admin.access import Operator
from app.admin.faults import ApiFault
from app.admin.records import Records
from app.audit import Act
from app.history import History
from app.history.reading import Reading
from app.publish.publisher import Publisher
from app.sessions.ending import Ending
from app.sessions.endings import Endings
from app.sessions.interface import SessionProvider
from app.settings import Settings

from . import web
from .access_token import AccessTokens
from .caller import Callers
from .limits import Limits
from .liveness import Liveness
from .progress import Progress
from .sessions import SessionRoutes

_SESSIONS = "/account/sessions"


class AccountApi:
    """Everything under `/account`. ``tokens`` None: browsers have no way in of their own."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        providers: Mapping[str, SessionProvider],
        tokens: AccessTokens | None,
        *,
        stopping: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        link = publisher.link
        history, reading = History(settings, link, clock=clock), Reading(link)
        self._records = Records(settings, link.client, clock)
        self._callers = Callers(settings, tokens)
        self._limits = Limits()
        self._liveness = Liveness(reading, clock)
        self.endings = Endings(
            reading,
            publisher.writer,
            providers,
            {issuer.issuer: issuer for issuer in settings.issuers},
            confirm_within=settings.confirm_within,
            # The operators' API follows its own, under a name of its own.
            me=f"{socket.gethostname()}-{os.getpid()}-account",
            on_over=self._note_end,
            clock=clock,
        )
        progress = Progress(self.endings, history, self._liveness, stopping, clock)
        sessions = SessionRoutes(
            providers, self.endings, progress, self._limits, self._records, clock
        )
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.account_origins,
            allow_methods=["GET", "DELETE"],
            allow_headers=["Authorization", "X-Requested-With"],
            expose_headers=["Retry-After"],
        )
        app = Starlette(
            routes=[*web.routes(), *sessions.routes, *progress.routes],
            exception_handlers={
                ApiFault: _refused, HTTPException: _http_error, Exception: _internal,
            },
            # Inside of it is who may ask: a preflight carries no proof.
            middleware=[*([cors] if settings.account_origins else []), Middleware(_Gate, api=self)],
        )  # fmt: skip
        app.router.redirect_slashes = False
        self.app: ASGIApp = _by_sent_path(app)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the endings that were begun."""
        async with self.endings.running():
            yield

    async def admit(self, scope: Scope) -> None:
        """Note in the scope who asks. Raises `ApiFault`."""
        caller = await self._callers.identify(scope)
        self._limits.ask(caller.who, (caller.issuer.issuer, caller.sub))
        await self._liveness.check(caller)
        scope["caller"], scope["operator"] = caller, Operator(caller.who, caller.peer)

    async def _note_end(self, ending: Ending) -> None:
        await self._records.note(
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


class _Gate:
    """Lets through whoever is known. What needs no proof passes: files, and what is not there."""

    def __init__(self, app: ASGIApp, api: AccountApi) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["type"] == "http" and (path == _SESSIONS or path.startswith(_SESSIONS + "/")):
            try:
                await self._api.admit(scope)
            except ApiFault as fault:
                await fault.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _by_sent_path(app: ASGIApp) -> ASGIApp:
    """The routes see the path as it was sent: a decoded ``%2F`` would be a slash of theirs."""

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"].decode("ascii", "replace")
        await app({**scope, "path": path}, receive, send)

    return routed


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
