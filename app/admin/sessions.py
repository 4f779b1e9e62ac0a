"""`/api/users/{user}/sessions` and `/api/sessions/{session}`: the providers' sessions.

They are read from the provider's own API at each request, ended there, and followed until every
app has acted: see `app.sessions.termination`. The operations are in `session_service`.
"""

from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.admin.responses import SessionResponse, SessionsResponse, TerminationsResponse
from app.admin.session_service import SessionService, TerminationOptions
from app.audit import RESERVED_NAME, is_reserved
from app.history import History, RevocationQuery
from app.sessions.session_provider import SessionProvider
from app.web import params
from app.web.audit_log import AuditLog
from app.web.errors import bad_request, not_found
from app.web.json_api import json_response
from app.web.provider_errors import provider_id, translated_faults
from app.web.resource import resource

_OPTIONS = ("refresh_tokens", "by", "reason")


@dataclass(frozen=True, slots=True)
class OperatorSessionRoutes:
    service: SessionService
    history: History
    audit_log: AuditLog

    @property
    def routes(self) -> list[Route]:
        user, session = "/api/users/{user}/sessions", "/api/sessions/{session}"
        return [
            resource(user, GET=self.list_sessions, DELETE=self.end_all),
            resource(user + "/state", GET=self.state_of_user),
            resource(session, GET=self.read, DELETE=self.end),
            resource(session + "/state", GET=self.state),
        ]

    # -- views -----------------------------------------------------------------------------

    async def list_sessions(self, request: Request) -> Response:
        """A page of a user's sessions."""
        values = params.query(request, ["issuer", "page"])
        provider = self.service.provider(values.get("issuer"))
        user = provider_id(params.path_id(request, "user"))
        page = await self.service.page(request, provider, user, values.get("page"))
        sessions = [self.service.session_model(session) for session in page.sessions]
        return json_response(SessionsResponse(sessions=sessions, next=page.next))

    async def read(self, request: Request) -> Response:
        """One session at the provider and in each app."""
        provider, session_id, user = self._params(request, ["issuer", "user"])
        await self.audit_log.record_view(
            "session.read", request, iss=provider.issuer, sid=session_id, sub=user
        )
        with translated_faults():
            session = await provider.read(session_id, user_id=user)
        termination = await self.service.find(provider, session_id)
        if session is None and termination is None:
            raise not_found("the provider knows no session of this id")
        sub = session.user_id if session is not None else None
        apps = await self.history.app_histories(
            RevocationQuery(iss=provider.issuer, sid=session_id, sub=sub)
        )
        return json_response(
            SessionResponse(
                session=None if session is None else self.service.session_model(session),
                apps=list(apps),
                ending=None
                if termination is None
                else await self.service.termination_model(termination),
            )
        )

    async def state(self, request: Request) -> Response:
        """The progress of a session's termination."""
        provider, session_id, _ = self._params(request, ["issuer"])
        termination = await self.service.watch(request, provider, session_id)
        if termination is None:
            raise not_found("nobody has ended a session of this id here, or it was days ago")
        return json_response(await self.service.termination_model(termination))

    async def state_of_user(self, request: Request) -> Response:
        """The progress of the newest termination of all sessions of a user."""
        values = params.query(request, ["issuer"])
        provider = self.service.provider(values.get("issuer"))
        user = provider_id(params.path_id(request, "user"))
        termination = await self.service.watch_of_user(request, provider, user)
        if termination is None:
            raise not_found("nobody has ended all sessions of this user here, or it was days ago")
        return json_response(await self.service.termination_model(termination))

    # -- acts ------------------------------------------------------------------------------

    async def end(self, request: Request) -> Response:
        """End one session: 202, because it has only begun."""
        provider, session_id, user = self._params(request, ["issuer", "user", *_OPTIONS])
        termination, begun = await self.service.end(
            request, provider, session_id, _options(request), user=user
        )
        model = await self.service.termination_model(termination)
        if not begun:
            return json_response(model, 200 if termination.outcome else 202)
        path = f"/api/sessions/{quote(session_id, safe='')}/state"
        return json_response(model, 202, {"Location": self._location(path, provider)})

    async def end_all(self, request: Request) -> Response:
        """End all sessions of a user, or all but one."""
        values = params.query(request, ["issuer", "except", *_OPTIONS])
        provider, options = self.service.provider(values.get("issuer")), _options(request)
        user = provider_id(params.path_id(request, "user"))
        ended = await self.service.end_all(
            request, provider, user, options, keep=values.get("except")
        )
        models = [await self.service.termination_model(each) for each in ended.terminations]
        if ended.of_user is None:
            response = TerminationsResponse(endings=models, of_user=None, more=ended.more)
            return json_response(response, 202 if models else 200)
        of_user = await self.service.termination_model(ended.of_user)
        path = f"/api/users/{quote(user, safe='')}/sessions/state"
        return json_response(
            TerminationsResponse(endings=models, of_user=of_user, more=ended.more),
            202,
            {"Location": self._location(path, provider)},
        )

    # -- parts -----------------------------------------------------------------------------

    def _params(
        self, request: Request, known: list[str]
    ) -> tuple[SessionProvider, str, str | None]:
        """The provider, the session's id, and its user if given."""
        values = params.query(request, known)
        user = provider_id(values["user"]) if "user" in values else None
        session_id = provider_id(params.path_id(request, "session"))
        return self.service.provider(values.get("issuer")), session_id, user

    def _location(self, path: str, provider: SessionProvider) -> str:
        if len(self.service.providers) == 1:
            return path
        return f"{path}?issuer={quote(provider.issuer, safe='')}"


def _options(request: Request) -> TerminationOptions:
    """Raises `ApiError`."""
    values = dict(request.query_params)
    if is_reserved(values.get("by", "")):
        raise bad_request(RESERVED_NAME)
    return TerminationOptions(
        params.flag(values, "refresh_tokens"),
        values.get("by", params.operator(request).who),
        values.get("reason"),
    )
