"""A user's sessions at the provider: a list; end one, end all; and how far an end is.

What is done is what `/api` does: see `app.admin.session_service`.
"""

from collections.abc import Iterable
from urllib.parse import urlencode

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.admin.session_service import SessionService, TerminationOptions
from app.console.pages import query
from app.console.rendering import Rendering
from app.console.session_views import device, termination_view
from app.console.sign_in.routes import own_form
from app.console.texts import TEXTS
from app.sessions.session_provider import SessionProvider
from app.web.audit_log import AuditLog
from app.web.errors import ApiError, bad_request
from app.web.params import operator
from app.web.provider_errors import provider_id

_LIST, _ENDING = "/console/sessions", "/console/sessions/ending"

# Shown on one page; the rest is followed all the same.
_MOST_SHOWN = 50

# What the form allows, too.
_LONGEST_REASON = 500


class SessionPages:
    def __init__(self, service: SessionService, audit_log: AuditLog, rendering: Rendering) -> None:
        self._service = service
        self._audit_log = audit_log
        self._rendering = rendering

    @property
    def routes(self) -> list[Route]:
        return [
            Route(_LIST, self.list_sessions, methods=["GET"]),
            Route(_ENDING, self.show_ending, methods=["GET"]),
            Route("/console/sessions/end", self.end, methods=["POST"]),
            Route("/console/sessions/end-all", self.end_all, methods=["POST"]),
        ]

    async def list_sessions(self, request: Request) -> Response:
        found = query(request, "issuer", "user", "page")
        shown, following, provider, fault = None, None, None, None
        if self._service.providers and "user" in found:
            try:
                provider = self._provider(found.get("issuer"))
                user = provider_id(found["user"])
                page = await self._service.page(request, provider, user, found.get("page"))
            except ApiError as error:
                fault = error  # beside the form, which keeps what was typed
            else:
                shown = [(self._service.session_model(one), device(one)) for one in page.sessions]
                following = page.next
        answer = self._rendering.page(
            request, "sessions", fault.status if fault else 200,
            fault=fault.sentence if fault else None,
            providers=sorted(self._service.providers), chosen=found, shown=shown,
            issuer=provider.issuer if provider else None, following=following,
            now=self._audit_log.clock(),
        )  # fmt: skip
        answer.headers.update(fault.headers if fault else {})
        return answer

    async def show_ending(self, request: Request) -> Response:
        """How far some ends are; looks again by itself."""
        members = request.query_params
        provider = self._provider(members.get("issuer"))
        ids = [provider_id(one) for one in members.getlist("session")[:_MOST_SHOWN]]
        if not ids:
            raise bad_request(TEXTS["which_session"])
        found = [await self._service.watch(request, provider, one) for one in ids]
        if "all_of" in members:
            user = provider_id(members["all_of"])
            found.insert(0, await self._service.watch_of_user(request, provider, user))
        shown = [
            termination_view(await self._service.termination_model(one))
            for one in found
            if one is not None
        ]
        return self._rendering.page(
            request, "ending", endings=shown, complete=all(one.complete for one in shown),
            issuer=provider.issuer, left_of=members.get("left_of"),
        )  # fmt: skip

    async def end(self, request: Request) -> Response:
        fields = await own_form(request)
        provider = self._provider(str(fields.get("issuer", "")))
        session_id = provider_id(str(fields.get("session", "")))
        user = provider_id(str(fields.get("user", "")))
        order = _order(request, fields)
        try:
            await self._service.end(request, provider, session_id, order, user=user)
        except ApiError as fault:
            return self._not_done(request, provider, user, fault)
        return _to_endings(provider, [session_id])

    async def end_all(self, request: Request) -> Response:
        fields = await own_form(request)
        if fields.get("sure") != "yes":
            raise bad_request(TEXTS["tick_the_box"])
        provider = self._provider(str(fields.get("issuer", "")))
        user = provider_id(str(fields.get("user", "")))
        order = _order(request, fields)
        try:
            ended = await self._service.end_all(request, provider, user, order)
        except ApiError as fault:
            return self._not_done(request, provider, user, fault)
        if not ended.terminations:
            return RedirectResponse(_list_of(provider, user), 303)
        ids = [one.session for one in ended.terminations[:_MOST_SHOWN]]
        return _to_endings(
            provider, ids, left_of=user if ended.more else None,
            all_of=user if ended.of_user is not None else None,
        )  # fmt: skip

    def _not_done(
        self, request: Request, provider: SessionProvider, user: str, fault: ApiError
    ) -> Response:
        """Says why, with the way back to the user's list."""
        back = _list_of(provider, user)
        answer = self._rendering.page(
            request, "fault", fault.status, sentence=fault.sentence, back=back
        )
        answer.headers.update(fault.headers)
        return answer

    def _provider(self, name: str | None) -> SessionProvider:
        """An empty choice of a form is none."""
        return self._service.provider(name or None)


def _list_of(provider: SessionProvider, user: str) -> str:
    return f"{_LIST}?{urlencode({'issuer': provider.issuer, 'user': user})}"


def _order(request: Request, fields: FormData) -> TerminationOptions:
    why = str(fields.get("why", "")).strip()[:_LONGEST_REASON]
    return TerminationOptions(
        fields.get("refresh_tokens") == "yes", operator(request).who, why or None
    )


def _to_endings(
    provider: SessionProvider,
    ids: Iterable[str],
    *,
    left_of: str | None = None,
    all_of: str | None = None,
) -> Response:
    """``left_of`` is a user of whom sessions are left: more than are ended at once. ``all_of`` is
    one whose sessions all end with one call."""
    pairs = [("issuer", provider.issuer), *(("session", one) for one in ids)]
    if left_of is not None:
        pairs.append(("left_of", left_of))
    if all_of is not None:
        pairs.append(("all_of", all_of))
    return RedirectResponse(f"{_ENDING}?{urlencode(pairs)}", 303)
