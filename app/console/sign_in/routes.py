"""The pages of sign-in and sign-out."""

from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.admin.access import LOOPBACK_HOSTS, Access
from app.audit import TOKEN_NAME
from app.console.forms import form, session_form
from app.console.rendering import Rendering
from app.console.sign_in.next_page import HOME, SIGN_IN, local_page
from app.console.sign_in.oidc import CALLBACK, NOT_ALLOWED, OidcSignIn, Person, SignInRefused
from app.console.sign_in.operator_sessions import COOKIE, OperatorSessions, cookie, set_cookie
from app.console.sign_in.pending import forget_pending
from app.console.sign_in.refused_sign_ins import ACT, THROTTLED, RefusedSignIns
from app.web.audit_log import AuditLog
from app.web.errors import ApiError
from app.web.operator import Operator, peer_address

REFUSALS = {
    "not_begun": "This sign-in was not started in this browser, or the receiver was restarted"
    " since. Please sign in again.",
    "late": "This sign-in took longer than ten minutes. Please sign in again.",
    "other_provider": "The answer came from another provider.",
    "provider_refused": "The provider did not sign you in.",
    "not_allowed": "You are signed in at the provider, but this account may not use the console.",
    "unusable": "The provider's ID token cannot be used.",
    "failed": "The sign-in at the provider failed; see the receiver's log.",
    "used": "The provider's answer to this sign-in was used before. Please sign in again.",
    "throttled": "Too many sign-ins are in progress. Please sign in again in a moment.",
}
"""Why a sign-in was refused, by `SignInRefused.code`."""

SESSION_OVER = {
    "ended": "Your provider has ended your session. Please sign in again.",
    "expired": "Your session is over: it was idle for an hour, or began eight hours ago.",
    "restarted": "The receiver was restarted, which ends all sessions. Please sign in again.",
}
"""Why a session is over, by `OperatorSessions.why_over`."""


class SignInRoutes:
    """``oidc`` None: only the token signs in."""

    def __init__(
        self,
        access: Access,
        sessions: OperatorSessions,
        oidc: OidcSignIn | None,
        audit_log: AuditLog,
        rendering: Rendering,
    ) -> None:
        self._access = access
        self._sessions = sessions
        self._oidc = oidc
        self._audit_log = audit_log
        self._refused = RefusedSignIns(audit_log)
        self._rendering = rendering

    @property
    def routes(self) -> list[Route]:
        routes = [
            Route(SIGN_IN, self.show, methods=["GET"]),
            Route(SIGN_IN, self.sign_in, methods=["POST"]),
            Route("/console/sign-out", self.sign_out, methods=["POST"]),
        ]
        if self._oidc is not None:
            routes += [
                Route("/console/sign-in/oidc", self.go, methods=["POST"]),
                Route(CALLBACK, self.come_back, methods=["GET"]),
            ]
        return routes

    async def show(self, request: Request) -> Response:
        page = local_page(request.query_params.get("next"))
        if request.scope["session"]:
            return RedirectResponse(page, 303)
        return self._sign_in_page(request, page, code=request.query_params.get("fault"))

    async def sign_in(self, request: Request) -> Response:
        """With the token. Wrong tokens count together with those of the API."""
        fields = await form(request)
        page = local_page(str(fields.get("next", "")))
        try:
            operator = self._access.check_token(
                request.scope, str(fields.get("token", "")).strip(), TOKEN_NAME
            )
        except ApiError as error:
            wait = error.headers.get("Retry-After")
            await self._refused.record(
                request, THROTTLED if wait else "token", wait=float(wait or 0)
            )
            answer = self._sign_in_page(request, page, error.status, fault=error.sentence)
            if wait:
                answer.headers["Retry-After"] = wait
            return answer
        return await self._begin(request, page, operator)

    async def sign_out(self, request: Request) -> Response:
        """Here and at the provider: otherwise the next click would sign in again."""
        await session_form(request)
        session = request.scope["session"]
        id_token = session.get("id_token")
        request.scope["operator"] = request.scope["signed_in"]
        await self._audit_log.record_act("console.sign_out", request)
        self._sessions.end(session)
        url = await self._oidc.sign_out_url(id_token) if self._oidc and id_token else None
        answer = self._leave(request, url) if url else RedirectResponse(SIGN_IN, 303)
        answer.headers.append("Set-Cookie", set_cookie("", life=0))
        return answer

    # -- OpenID Connect ----------------------------------------------------------------------

    async def go(self, request: Request) -> Response:
        """To the provider."""
        assert self._oidc is not None  # noqa: S101  otherwise there is no such route
        fields = await form(request) if "content-type" in request.headers else FormData()
        page = local_page(str(fields.get("next", "")))
        try:
            url, pending = await self._oidc.begin(
                _origin(request), page, another_account=fields.get("account") == "another"
            )
        except SignInRefused as refused:
            return self._sign_in_page(request, page, 502, code=refused.code)
        answer = self._leave(request, url)
        answer.headers.append("Set-Cookie", pending)
        return answer

    async def come_back(self, request: Request) -> Response:
        """From the provider. A refusal redirects, because this answer's address holds a code."""
        assert self._oidc is not None  # noqa: S101
        try:
            person, page = await self._oidc.finish(request, _origin(request))
        except SignInRefused as refused:
            return await self._refuse(request, refused)
        operator = Operator(person.who, peer_address(request.scope), person.iss)
        answer = await self._begin(request, page, operator, person)
        answer.headers.append("Set-Cookie", forget_pending())
        return answer

    async def _refuse(self, request: Request, refused: SignInRefused) -> Response:
        members: dict[str, Any] = {}
        if (person := refused.person) is not None:
            members = {"who": person.who, "iss": person.iss, "sub": person.sub}
        await self._refused.record(request, refused.code, wait=refused.wait, **members)
        query = {"fault": refused.code} | ({"next": refused.page} if refused.page else {})
        answer = RedirectResponse(f"{SIGN_IN}?{urlencode(query)}", 303)
        if refused.over:
            answer.headers.append("Set-Cookie", forget_pending())
        return answer

    # -- answers -----------------------------------------------------------------------------

    def _sign_in_page(
        self,
        request: Request,
        page: str,
        status: int = 200,
        *,
        code: str | None = None,
        fault: str | None = None,
    ) -> Response:
        """``code`` or ``fault`` explains a refusal; otherwise the cookie may explain the end of a
        session."""
        fault = fault or REFUSALS.get(code or "")
        why = self._sessions.why_over(cookie(request.headers, COOKIE))
        return self._rendering.page(
            request, "sign_in", status, fault=fault, next_page="" if page == HOME else page,
            over=SESSION_OVER[why] if why and not fault else None,
            another_account=code == NOT_ALLOWED,
        )  # fmt: skip

    def _leave(self, request: Request, url: str) -> Response:
        # A page of its own, because `form-action` forbids the redirect of a form.
        return self._rendering.page(request, "leave", url=url)

    async def _begin(
        self, request: Request, page: str, operator: Operator, person: Person | None = None
    ) -> Response:
        request.scope["operator"] = operator
        members: dict[str, Any] = {}
        if person is None:
            await self._audit_log.record_act(ACT, request)
        else:
            await self._audit_log.record_act(ACT, request, iss=person.iss, sub=person.sub)
            members = {
                "oidc": True, "who_iss": person.iss, "display_name": person.display_name,
                "id_token": person.id_token, **person.members,
            }  # fmt: skip
        name = self._sessions.begin(operator.who, **members)
        # The browser sends the strict cookie from our page, but not after another site's redirect.
        answer = self._rendering.page(request, "enter", to=page)
        answer.headers.append("Set-Cookie", set_cookie(name, name=COOKIE))
        return answer


def _origin(request: Request) -> str:
    """Our own origin as the browser sees it. The host has been checked. Without loopback the
    scheme is https, or the browser would not keep the cookie."""
    scheme = "http" if request.url.hostname in LOOPBACK_HOSTS else "https"
    return f"{scheme}://{request.headers['host']}"
