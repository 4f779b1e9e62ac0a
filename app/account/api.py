"""The users' listener, put together: each call is proven, counted, and asked about its session."""

import time
from collections.abc import Callable

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.admin.access import Operator
from app.admin.faults import ApiFault
from app.admin.json_api import json_api
from app.admin.provider_sessions import ProviderSessions
from app.history import History
from app.history.reading import Reading
from app.publish.publisher import Publisher
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
        sessions: ProviderSessions,
        tokens: AccessTokens | None,
        *,
        stopping: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        link, endings = publisher.reads, sessions.endings
        self._callers = Callers(settings, tokens)
        self._limits = Limits()
        self._liveness = Liveness(Reading(link), clock)
        history = History(settings, link, clock=clock)
        progress = Progress(endings, history, self._liveness, stopping, clock)
        routes = SessionRoutes(
            sessions.providers, endings, progress, self._limits, sessions.records, clock
        ).routes
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.account_origins,
            allow_methods=["GET", "DELETE"],
            allow_headers=["Authorization", "X-Requested-With"],
            expose_headers=["Retry-After", "Date"],
        )
        # Inside of it is who may ask: a preflight carries no proof.
        middleware = [*([cors] if settings.account_origins else []), Middleware(_Gate, api=self)]
        # The state of all others comes before a session that is named so: that is never read.
        self.app: ASGIApp = json_api([*web.routes(), *progress.routes, *routes], middleware)

    async def admit(self, scope: Scope) -> None:
        """Note in the scope who asks. Raises `ApiFault`."""
        caller = await self._callers.identify(scope)
        self._limits.ask(caller.who, (caller.issuer.issuer, caller.sub))
        await self._liveness.check(caller)
        scope["caller"], scope["operator"] = caller, Operator(caller.who, caller.peer)


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
