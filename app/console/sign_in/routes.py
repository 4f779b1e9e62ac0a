"""Sign-in and sign-out."""

import hmac
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.admin.access import Access
from app.audit import TOKEN_NAME
from app.console.rendering import Rendering
from app.console.sign_in.next_page import HOME, SIGN_IN, local_page
from app.console.sign_in.oidc import CALLBACK, NOT_ALLOWED, OidcSignIn, Person, SignInRefused
from app.console.sign_in.operator_sessions import COOKIE, OperatorSessions, cookie, set_cookie
from app.console.sign_in.refused_sign_ins import ACT, THROTTLED, RefusedSignIns
from app.console.texts import SESSION_OVER, SIGN_IN_FAULTS
from app.web.audit_log import AuditLog
from app.web.errors import ApiError, bad_request
from app.web.operator import Operator
from app.web.params import MAX_BODY

# A pasted token is a few KiB, one with many groups some more.
LARGEST_FORM = 4 * MAX_BODY


async def form(request: Request) -> FormData:
    """The form's fields, at most `LARGEST_FORM`, URL-encoded. Raises `ApiError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise ApiError(415, "unsupported_media_type", "the body must be a form")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > LARGEST_FORM:
            raise ApiError(413, "too_large", "the form is larger than 64 KiB")
    try:
        return FormData(dict(parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=50)))
    except ValueError:
        raise bad_request("the form can not be read") from None


async def own_form(request: Request) -> FormData:
    """The fields of a form that this session was shown. Raises `ApiError`."""
    found = await form(request)
    shown = str(found.get("csrf", ""))
    own = request.scope["session"].get("csrf")  # it may have ended while the form came
    if own is None or not hmac.compare_digest(shown.encode(), own.encode()):
        raise ApiError(403, "csrf", "this form is not one of this session; go back and reload")
    return found


class AccessRoutes:
    """``oidc`` None: only the token signs in."""

    def __init__(
        self,
        access: Access,
        signed_in: OperatorSessions,
        oidc: OidcSignIn | None,
        audit_log: AuditLog,
        rendering: Rendering,
    ) -> None:
        self._access = access
        self._signed_in = signed_in
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
        """With the token. A wrong one counts as a wrong one of the API does."""
        found = await form(request)
        page = local_page(str(found.get("next", "")))
        try:
            operator = self._access.check_token(
                request.scope, str(found.get("token", "")).strip(), TOKEN_NAME
            )
        except ApiError as fault:
            wait = fault.headers.get("Retry-After")
            await self._refused.note(request, THROTTLED if wait else "token", wait=float(wait or 0))
            answer = self._sign_in_page(request, page, fault.status, fault=fault.sentence)
            if wait:
                answer.headers["Retry-After"] = wait
            return answer
        return await self._begin(request, page, operator)

    async def sign_out(self, request: Request) -> Response:
        """Here, and where the session came from: else the next click would sign in again."""
        await own_form(request)
        session = request.scope["session"]
        id_token = session.get("id_token")
        request.scope["operator"] = request.scope["signed_in"]
        await self._audit_log.record_act("console.sign_out", request)
        self._signed_in.end(session)
        url = await self._oidc.sign_out_url(id_token) if self._oidc and id_token else None
        answer = self._leave(request, url) if url else RedirectResponse(SIGN_IN, 303)
        answer.headers.append("Set-Cookie", set_cookie("", life=0))
        return answer

    # -- OpenID Connect ----------------------------------------------------------------------

    async def go(self, request: Request) -> Response:
        """To the provider."""
        assert self._oidc is not None  # noqa: S101  the route is not there without it
        found = await form(request) if "content-type" in request.headers else FormData()
        page = local_page(str(found.get("next", "")))
        try:
            url, pending = await self._oidc.begin(
                _origin(request), page, another_account=found.get("account") == "another"
            )
        except SignInRefused as fault:
            return self._sign_in_page(request, page, 502, code=fault.code)
        answer = self._leave(request, url)
        answer.headers.append("Set-Cookie", pending)
        return answer

    async def come_back(self, request: Request) -> Response:
        """From the provider. A refusal redirects to the sign-in: the address of this answer holds a
        code."""
        assert self._oidc is not None  # noqa: S101
        try:
            person, page = await self._oidc.finish(request, _origin(request))
        except SignInRefused as fault:
            return await self._turned_away(request, fault)
        operator = Operator(person.who, _peer(request), person.iss)
        answer = await self._begin(request, page, operator, person)
        answer.headers.append("Set-Cookie", self._oidc.forget())
        return answer

    async def _turned_away(self, request: Request, fault: SignInRefused) -> Response:
        assert self._oidc is not None  # noqa: S101
        whose: dict[str, Any] = {}
        if fault.person is not None:
            whose = {"who": fault.person.who, "iss": fault.person.iss, "sub": fault.person.sub}
        await self._refused.note(request, fault.code, wait=fault.wait, **whose)
        query = {"fault": fault.code} | ({"next": fault.page} if fault.page else {})
        answer = RedirectResponse(f"{SIGN_IN}?{urlencode(query)}", 303)
        if fault.over:
            answer.headers.append("Set-Cookie", self._oidc.forget())
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
        """``code`` and ``fault`` say why somebody was refused; without, the cookie may say why a
        session is over."""
        fault = fault or SIGN_IN_FAULTS.get(code or "")
        why = self._signed_in.why_over(cookie(request.headers, COOKIE))
        return self._rendering.page(
            request, "sign_in", status, fault=fault, next_page="" if page == HOME else page,
            over=SESSION_OVER[why] if why and not fault else None,
            another_account=code == NOT_ALLOWED,
        )  # fmt: skip

    def _leave(self, request: Request, url: str) -> Response:
        # A page of its own, for `form-action` would forbid the redirect of a form.
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
                "oidc": True, "who_iss": person.iss, "shown": person.shown,
                "id_token": person.id_token, **person.members,
            }  # fmt: skip
        name = self._signed_in.begin(operator.who, **members)
        # The strict cookie is not sent in what follows from another site's page; from ours, it is.
        answer = self._rendering.page(request, "enter", to=page)
        answer.headers.append("Set-Cookie", set_cookie(name, name=COOKIE))
        return answer


def _peer(request: Request) -> str:
    return request.client.host if request.client else "-"


def _origin(request: Request) -> str:
    """Our own address, as the browser knows it. Its host has been checked; what is not loopback
    is reached by https, or the browser would not keep the cookie."""
    host = request.headers["host"]
    name = request.url.hostname
    scheme = "http" if name in ("localhost", "127.0.0.1", "::1") else "https"
    return f"{scheme}://{host}"
