"""Sign-in and sign-out."""

import hmac
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.admin.access import Access, Operator
from app.admin.asked import LARGEST_BODY
from app.admin.faults import ApiFault, bad_request
from app.admin.records import Records

from .oidc import CALLBACK, OidcSignIn, SignInRefused
from .rendering import Rendering
from .signed_in import COOKIE, SignedIn, set_cookie

# A pasted token is a few KiB, one with many groups some more.
LARGEST_FORM = 4 * LARGEST_BODY

SIGN_IN = "/console/sign-in"

TOKEN_NAME = "admin_token"
"""``who`` of somebody who has shown the token: there is one, so nobody knows more."""


async def form(request: Request) -> FormData:
    """The form's fields, at most `LARGEST_FORM`, URL-encoded. Raises `ApiFault`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise ApiFault(415, "unsupported_media_type", "the body must be a form")
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > LARGEST_FORM:
            raise ApiFault(413, "too_large", "the form is larger than 64 KiB")
    try:
        return FormData(dict(parse_qsl(data.decode(), keep_blank_values=True, max_num_fields=50)))
    except ValueError:
        raise bad_request("the form can not be read") from None


async def own_form(request: Request) -> FormData:
    """The fields of a form that this session was shown. Raises `ApiFault`."""
    found = await form(request)
    shown = str(found.get("csrf", ""))
    if not hmac.compare_digest(shown.encode(), request.scope["session"]["csrf"].encode()):
        raise ApiFault(403, "csrf", "this form is not one of this session; go back and reload")
    return found


class AccessRoutes:
    """``oidc`` None: only the token signs in."""

    def __init__(
        self,
        access: Access,
        signed_in: SignedIn,
        oidc: OidcSignIn | None,
        records: Records,
        rendering: Rendering,
    ) -> None:
        self._access = access
        self._signed_in = signed_in
        self._oidc = oidc
        self._records = records
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
        if request.scope["session"]:
            return RedirectResponse("/console", 303)
        return self._rendering.page(request, "sign_in", fault=None)

    async def sign_in(self, request: Request) -> Response:
        """With the token. A wrong one counts as a wrong one of the API does."""
        shown = str((await form(request)).get("token", "")).strip()
        try:
            operator = self._access.check_token(request.scope, shown, TOKEN_NAME)
        except ApiFault as fault:
            answer = self._rendering.page(request, "sign_in", fault.status, fault=fault.sentence)
            answer.headers.update({k: v for k, v in fault.headers.items() if k == "Retry-After"})
            return answer
        return await self._begin(request, operator.who)

    async def sign_out(self, request: Request) -> Response:
        await own_form(request)
        request.scope["operator"] = request.scope["signed_in"]
        await self._records.act("console.sign_out", request)
        request.scope["session"].clear()
        answer = RedirectResponse(SIGN_IN, 303)
        answer.headers.append("Set-Cookie", set_cookie("", life=0))
        return answer

    # -- OpenID Connect ----------------------------------------------------------------------

    async def go(self, request: Request) -> Response:
        """To the provider."""
        assert self._oidc is not None  # noqa: S101  the route is not there without it
        try:
            url, pending = await self._oidc.begin(_origin(request))
        except SignInRefused as fault:
            return self._rendering.page(request, "sign_in", 502, fault=str(fault))
        # A page of its own, for `form-action` would forbid the redirect of a form.
        answer = self._rendering.page(request, "leave", url=url)
        answer.headers.append("Set-Cookie", pending)
        return answer

    async def come_back(self, request: Request) -> Response:
        """From the provider."""
        assert self._oidc is not None  # noqa: S101
        try:
            claims, who = await self._oidc.finish(request, _origin(request))
        except SignInRefused as fault:
            return self._rendering.page(request, "sign_in", 403, fault=str(fault))
        answer = await self._begin(request, who, oidc=True, **claims)
        answer.headers.append("Set-Cookie", self._oidc.forget())
        return answer

    async def _begin(self, request: Request, who: str, **members: Any) -> Response:
        peer = request.client.host if request.client else "-"
        request.scope["operator"] = Operator(who, peer)
        await self._records.act("console.sign_in", request)
        name = self._signed_in.begin(who, **members)
        # The strict cookie is not sent in what follows from another site's page; from ours, it is.
        answer = self._rendering.page(request, "enter", to="/console")
        answer.headers.append("Set-Cookie", set_cookie(name, name=COOKIE))
        return answer


def _origin(request: Request) -> str:
    """Our own address, as the browser knows it. Its host has been checked; what is not loopback
    is reached by https, or the browser would not keep the cookie."""
    host = request.headers["host"]
    name = request.url.hostname
    scheme = "http" if name in ("localhost", "127.0.0.1", "::1") else "https"
    return f"{scheme}://{host}"
