"""The users' listener, put together: each call is proven, counted, and asked about its session."""

import time
from collections.abc import Callable

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.account import page
from app.account.access_token import AccessTokens
from app.account.caller import Callers
from app.account.kratos_caller import KratosCallers
from app.account.liveness import Liveness
from app.account.progress import Progress
from app.account.request_limits import RequestLimits
from app.account.sessions import AccountSessionRoutes
from app.config.model import Settings
from app.history import History
from app.history.app_reader import AppReader
from app.publish.publisher import Publisher
from app.web.errors import ApiFault
from app.web.json_api import json_api
from app.web.operator import Operator
from app.web.provider_sessions import ProviderSessions

_SESSIONS = "/account/sessions"


class AccountApi:
    """Everything under `/account`. ``tokens`` None: access tokens are not accepted. ``kratos``
    None: nor are credentials of Kratos."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        sessions: ProviderSessions,
        tokens: AccessTokens | None,
        kratos: KratosCallers | None,
        *,
        stopping: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        link, endings = publisher.reads, sessions.endings
        self._callers = Callers(settings, tokens)
        self._kratos = kratos
        self._limits = RequestLimits()
        self._liveness = Liveness(AppReader(link), clock)
        history = History(settings, link, clock=clock)
        progress = Progress(endings, history, self._liveness, stopping, clock)
        routes = AccountSessionRoutes(
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
        middleware = [
            *([cors] if settings.account_origins else []),
            Middleware(_Authenticator, api=self),
        ]
        # The state of all others comes before a session that is named so: that is never read.
        self.app: ASGIApp = json_api([*page.routes(), *progress.routes, *routes], middleware)

    async def admit(self, scope: Scope) -> None:
        """Note in the scope who asks. Raises `ApiFault`."""
        caller = await self._kratos.identify(scope) if self._kratos is not None else None
        caller = caller or await self._callers.identify(scope)
        self._limits.count_request(caller.who, (caller.issuer.issuer, caller.sub))
        await self._liveness.check(caller)
        scope["caller"], scope["operator"] = caller, Operator(caller.who, caller.peer)


class _Authenticator:
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
