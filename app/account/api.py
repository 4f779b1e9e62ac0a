"""The application of the users' listener. Each request is authenticated, counted against the
limits, and its session checked."""

from collections.abc import Callable

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.account import page
from app.account.access_token import AccessTokens
from app.account.caller import Callers
from app.account.kratos_caller import KratosCallers
from app.account.liveness import Liveness
from app.account.progress import ProgressRoutes
from app.account.request_limits import RequestLimits
from app.account.sessions import AccountSessionRoutes
from app.config.model import Settings
from app.history import History
from app.history.app_reader import AppReader
from app.publish.publisher import Publisher
from app.web.errors import ApiError
from app.web.json_api import json_api
from app.web.operator import Operator, peer_address
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
    ) -> None:
        redis, terminations = publisher.reads, sessions.terminations
        self._callers = Callers(settings, tokens)
        self._kratos = kratos
        self._limits = RequestLimits()
        self._liveness = Liveness(AppReader(redis))
        history = History(settings, redis)
        progress = ProgressRoutes(terminations, history, self._liveness, stopping)
        routes = AccountSessionRoutes(
            sessions.providers, terminations, progress, self._limits, sessions.audit_log
        ).routes
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.account_origins,
            allow_methods=["GET", "DELETE"],
            allow_headers=["Authorization", "X-Requested-With"],
            expose_headers=["Retry-After", "Date"],
        )
        # CORS comes first: a preflight carries no credential.
        middleware = [
            *([cors] if settings.account_origins else []),
            Middleware(_Authenticator, api=self),
        ]
        # `progress` comes first: /account/sessions/state is not a session called "state".
        self.app: ASGIApp = json_api([*page.routes(), *progress.routes, *routes], middleware)

    async def authenticate(self, scope: Scope) -> None:
        """Set ``scope["caller"]`` and ``scope["operator"]``. Raises `ApiError`."""
        credential = self._kratos.credential(scope) if self._kratos is not None else None
        if self._kratos is None or credential is None:
            caller = await self._callers.identify(scope)
        else:
            self._limits.count_identification(peer_address(scope))
            caller = await self._kratos.identify(scope, credential)
        self._limits.count_request(caller.who, (caller.issuer.issuer, caller.sub))
        if credential is not None:
            self._limits.give_back_identification(caller.peer)
        await self._liveness.check(caller)
        scope["caller"], scope["operator"] = caller, Operator(caller.who, caller.peer)


class _Authenticator:
    """Authenticates everything below `/account/sessions`; static files need no credential."""

    def __init__(self, app: ASGIApp, api: AccountApi) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["type"] == "http" and (path == _SESSIONS or path.startswith(_SESSIONS + "/")):
            try:
                await self._api.authenticate(scope)
            except ApiError as error:
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)
