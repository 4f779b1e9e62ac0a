"""The application of the console: authentication, and the headers of every answer."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.admin.api import AdminApi
from app.config.model import Settings
from app.console.feed_pages import FeedPages
from app.console.rendering import STATIC, Rendering
from app.console.session_pages import SessionPages
from app.console.sign_in.next_page import SIGN_IN, sign_in_for
from app.console.sign_in.oidc import CALLBACK, OidcSignIn
from app.console.sign_in.operator_sessions import OperatorSessions, WithOperator, WithSession
from app.console.sign_in.routes import SignInRoutes
from app.console.status_pages import StatusPages
from app.console.story_pages import StoryPages
from app.console.token_forms import TokenFormRoutes
from app.store.unserved import Unserved
from app.tokens.fetch import new_client
from app.web.errors import ApiError
from app.web.event_stream import EventStreams
from backchannel_logout import AsyncSessionGuard
from backchannel_logout.asgi import BackchannelLogoutMiddleware
from backchannel_logout.redis.connection import AsyncClient

PREFIX = "/console"

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@contextlib.asynccontextmanager
async def running_console(
    settings: Settings,
    api: AdminApi,
    sessions: OperatorSessions,
    redis: AsyncClient,
    unserved: Callable[[], Unserved],
) -> AsyncIterator[ASGIApp]:
    """The application of `/console` and, with the console's session, of `/api`."""
    async with contextlib.AsyncExitStack() as stack:
        oidc, guard = None, None
        if settings.admin_oidc is not None:
            client = await stack.enter_async_context(new_client())
            oidc = OidcSignIn(settings, settings.admin_oidc, client)
            stack.push_async_callback(oidc.aclose)
            api.key_fetches.fetches.add(oidc.keys)
            guard = await stack.enter_async_context(AsyncSessionGuard(redis, app=oidc.app))
        yield _Console(settings, api, sessions, oidc, guard, unserved).app


class _Console:
    def __init__(
        self,
        settings: Settings,
        api: AdminApi,
        sessions: OperatorSessions,
        oidc: OidcSignIn | None,
        guard: AsyncSessionGuard | None,
        unserved: Callable[[], Unserved],
    ) -> None:
        self._access = api.access
        history, audit_log = api.history, api.audit_log
        rendering = Rendering(token=settings.admin_token is not None, oidc=oidc is not None)
        issuers = [issuer.issuer for issuer in settings.issuers]
        parts = (
            SignInRoutes(api.access, sessions, oidc, audit_log, rendering),
            FeedPages(issuers, history, audit_log, rendering, EventStreams(api.stopping)),
            StoryPages(issuers, history, audit_log, rendering),
            SessionPages(api.session_service, rendering),
            StatusPages(
                settings, history, api.providers, api.key_fetches, rendering,
                readiness=api.health, unserved=unserved,
            ),
            TokenFormRoutes(settings, history, audit_log, rendering),
        )  # fmt: skip
        routes = [route for part in parts for route in part.routes]
        routes.append(Route(STATIC + "{name}", rendering.file, methods=["GET"]))
        handlers: Mapping[Any, Any] = {ApiError: self._api_error, HTTPException: self._http_error}
        pages = Starlette(routes=routes, exception_handlers=handlers)
        pages.router.redirect_slashes = False
        self._rendering = rendering
        self._pages = pages
        self._api = api.app
        inner: ASGIApp = WithOperator(self._dispatch, sessions)
        if guard is not None:
            # The console is a relying app like any other and uses the same middleware.
            inner = BackchannelLogoutMiddleware(inner, guard, signed_in="oidc", login_url=SIGN_IN)
        self._with_session: ASGIApp = WithSession(inner, sessions)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_console(scope["path"]):
            send = _with_headers(send, Request(scope))
        await self._with_session(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_console(scope["path"]):
            await self._api(scope, receive, send)
            return
        answer = self._denied(Request(scope))
        if answer is not None:
            await answer(scope, receive, send)
            return
        scope = {**scope, "operator": scope.get("signed_in")}
        await self._pages(scope, receive, send)

    def _denied(self, request: Request) -> Response | None:
        """The answer instead of the page; None if access is granted."""
        scope, path = request.scope, request.url.path
        try:
            self._access.check_host(scope)
            if path != CALLBACK:
                if _is_link_from_elsewhere(request):
                    # Without the strict cookie, which another site's link does not send. Reloaded
                    # from a page of ours, it is sent.
                    to = path + (f"?{request.url.query}" if request.url.query else "")
                    return self._rendering.page(request, "enter", to=to)
                self._access.check_host_and_origin(scope)
        except ApiError as error:
            return PlainTextResponse(f"{error.sentence}\n", error.status)
        if scope.get("signed_in") or path.startswith((SIGN_IN, STATIC)) or path == CALLBACK:
            return None
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(sign_in_for(request), 303)
        return PlainTextResponse("sign in first\n", 401)

    async def _api_error(self, request: Request, error: ApiError) -> Response:
        answer = self._rendering.page(request, "fault", error.status, sentence=error.sentence)
        answer.headers.update(error.headers)
        return answer

    async def _http_error(self, request: Request, error: HTTPException) -> Response:
        sentences = {404: "There is no such page.", 405: "This page does not support this method."}
        sentence = sentences.get(error.status_code, "")
        return self._rendering.page(request, "fault", error.status_code, sentence=sentence)


def with_console(app: ASGIApp, console: ASGIApp) -> ASGIApp:
    """``app``, with `/console` and `/api`."""

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        to_console = scope["type"] == "http" and (
            is_console(scope["path"]) or scope["raw_path"].startswith(b"/api/")
        )
        await (console if to_console else app)(scope, receive, send)

    return dispatch


def is_console(path: str) -> bool:
    return path == PREFIX or path.startswith(PREFIX + "/")


def _is_link_from_elsewhere(request: Request) -> bool:
    """Whether a browser follows a link from another site to a page of ours."""
    headers = request.headers
    return (
        request.method == "GET"
        and headers.get("sec-fetch-site") in ("cross-site", "same-site")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _with_headers(send: Send, request: Request) -> Send:
    """Sets `HEADERS`, and adds the requested page to the middleware's redirect to the sign-in."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            if headers.get("location") == SIGN_IN:
                headers["location"] = sign_in_for(request)
        await send(message)

    return sending
