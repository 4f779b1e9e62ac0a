"""A user's sessions at the provider: a list, the buttons that end them, and the progress.

The operations are those of `/api`: see `app.admin.session_service`.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.admin.session_service import SessionService, TerminationOptions
from app.console.forms import query, session_form
from app.console.rendering import Rendering
from app.console.session_views import device, termination_view
from app.sessions.session_provider import SessionProvider
from app.web.errors import ApiError, bad_request
from app.web.params import operator
from app.web.provider_errors import provider_id

_LIST, _PROGRESS = "/console/sessions", "/console/sessions/ending"

# Terminations shown on one page; the others are followed all the same.
_MAX_SHOWN = 50

# As the form's ``maxlength``.
_MAX_REASON_LENGTH = 500


@dataclass(frozen=True, slots=True)
class SessionPages:
    service: SessionService
    rendering: Rendering

    @property
    def routes(self) -> list[Route]:
        return [
            Route(_LIST, self.list_sessions, methods=["GET"]),
            Route(_PROGRESS, self.progress, methods=["GET"]),
            Route("/console/sessions/end", self.end, methods=["POST"]),
            Route("/console/sessions/end-all", self.end_all, methods=["POST"]),
        ]

    async def list_sessions(self, request: Request) -> Response:
        values = query(request, "issuer", "user", "page")
        sessions, following, provider, error = None, None, None, None
        if self.service.providers and "user" in values:
            try:
                provider = self._provider(values.get("issuer"))
                user = provider_id(values["user"])
                page = await self.service.page(request, provider, user, values.get("page"))
            except ApiError as api_error:
                error = api_error  # shown above the form, which keeps its values
            else:
                sessions = [
                    (self.service.session_model(session), device(session))
                    for session in page.sessions
                ]
                following = page.next
        answer = self.rendering.page(
            request, "sessions", error.status if error else 200,
            fault=error.sentence if error else None,
            providers=sorted(self.service.providers), chosen=values, sessions=sessions,
            issuer=provider.issuer if provider else None, following=following,
            now=time.time(),
        )  # fmt: skip
        answer.headers.update(error.headers if error else {})
        return answer

    async def progress(self, request: Request) -> Response:
        """The progress of some terminations; the page refreshes itself."""
        values = request.query_params
        provider = self._provider(values.get("issuer"))
        ids = [provider_id(value) for value in values.getlist("session")[:_MAX_SHOWN]]
        if not ids:
            raise bad_request("name a session")
        terminations = [await self.service.watch(request, provider, each) for each in ids]
        if "all_of" in values:
            user = provider_id(values["all_of"])
            terminations.insert(0, await self.service.watch_of_user(request, provider, user))
        views = [
            termination_view(await self.service.termination_model(termination))
            for termination in terminations
            if termination is not None
        ]
        return self.rendering.page(
            request, "ending", terminations=views, complete=all(view.complete for view in views),
            issuer=provider.issuer, left_of=values.get("left_of"),
        )  # fmt: skip

    async def end(self, request: Request) -> Response:
        fields = await session_form(request)
        provider = self._provider(str(fields.get("issuer", "")))
        session_id = provider_id(str(fields.get("session", "")))
        user = provider_id(str(fields.get("user", "")))
        options = _options(request, fields)
        try:
            await self.service.end(request, provider, session_id, options, user=user)
        except ApiError as error:
            return self._failed(request, provider, user, error)
        return _to_progress(provider, [session_id])

    async def end_all(self, request: Request) -> Response:
        fields = await session_form(request)
        if fields.get("sure") != "yes":
            raise bad_request("tick the box to sign the user out everywhere")
        provider = self._provider(str(fields.get("issuer", "")))
        user = provider_id(str(fields.get("user", "")))
        options = _options(request, fields)
        try:
            ended = await self.service.end_all(request, provider, user, options)
        except ApiError as error:
            return self._failed(request, provider, user, error)
        if not ended.terminations:
            return RedirectResponse(_list_address(provider, user), 303)
        ids = [termination.session for termination in ended.terminations[:_MAX_SHOWN]]
        return _to_progress(
            provider, ids, left_of=user if ended.more else None,
            all_of=user if ended.of_user is not None else None,
        )  # fmt: skip

    def _failed(
        self, request: Request, provider: SessionProvider, user: str, error: ApiError
    ) -> Response:
        """Shows the error, with a link back to the user's list."""
        back = _list_address(provider, user)
        answer = self.rendering.page(
            request, "fault", error.status, sentence=error.sentence, back=back
        )
        answer.headers.update(error.headers)
        return answer

    def _provider(self, name: str | None) -> SessionProvider:
        """An empty choice of a form is no choice."""
        return self.service.provider(name or None)


def _list_address(provider: SessionProvider, user: str) -> str:
    return f"{_LIST}?{urlencode({'issuer': provider.issuer, 'user': user})}"


def _options(request: Request, fields: FormData) -> TerminationOptions:
    why = str(fields.get("why", "")).strip()[:_MAX_REASON_LENGTH]
    return TerminationOptions(
        fields.get("refresh_tokens") == "yes", operator(request).who, why or None
    )


def _to_progress(
    provider: SessionProvider,
    ids: Iterable[str],
    *,
    left_of: str | None = None,
    all_of: str | None = None,
) -> Response:
    """``left_of``: the user, if further sessions are left. ``all_of``: the user, if one call ends
    all sessions."""
    pairs = [("issuer", provider.issuer), *(("session", session_id) for session_id in ids)]
    if left_of is not None:
        pairs.append(("left_of", left_of))
    if all_of is not None:
        pairs.append(("all_of", all_of))
    return RedirectResponse(f"{_PROGRESS}?{urlencode(pairs)}", 303)
