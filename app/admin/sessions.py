"""`/api/users/{user}/sessions`, `/api/sessions/{session}`: the providers' sessions.

Looked at in the provider's own API, each time anew; ended there, and followed until every app has
let go: see `app.sessions.termination`. The operations themselves are in `session_service`.
"""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.admin.session_service import SessionService, TerminationRequest, provider_id
from app.audit import RESERVED_NAME, is_reserved
from app.history import History, RevocationQuery, as_json
from app.sessions.session_provider import SessionProvider
from app.web import params
from app.web.audit_log import AuditLog
from app.web.errors import bad_request, not_found
from app.web.provider_errors import as_answers
from app.web.resource import resource

_ORDER = ("refresh_tokens", "by", "reason")


class OperatorSessionRoutes:
    def __init__(self, acts: SessionService, history: History, records: AuditLog) -> None:
        self._acts = acts
        self._history = history
        self._records = records

    @property
    def routes(self) -> list[Route]:
        user, session = "/api/users/{user}/sessions", "/api/sessions/{session}"
        return [
            resource(user, GET=self.list_sessions, DELETE=self.end_all),
            resource(user + "/state", GET=self.state_of_user),
            resource(session, GET=self.read, DELETE=self.end),
            resource(session + "/state", GET=self.state),
        ]

    # -- looks -----------------------------------------------------------------------------

    async def list_sessions(self, request: Request) -> Response:
        """A page of a user's sessions."""
        found = params.query(request, ["issuer", "page"])
        provider = self._acts.provider(found.get("issuer"))
        user = provider_id(params.segment(request, "user"))
        page = await self._acts.page(request, provider, user, found.get("page"))
        shown = [self._acts.shown(one) for one in page.sessions]
        return JSONResponse({"sessions": shown, "next": page.next})

    async def read(self, request: Request) -> Response:
        """One session: what the provider says of it, and what each app does."""
        provider, session_id, user = self._asked_for(request, ["issuer", "user"])
        await self._records.look(
            "session.read", request, iss=provider.issuer, sid=session_id, sub=user
        )
        with as_answers():
            session = await provider.read(session_id, user_id=user)
        ending = await self._acts.ending(provider, session_id)
        if session is None and ending is None:
            raise not_found("the provider knows no session of this id")
        sub = session.user_id if session is not None else None
        question = RevocationQuery(iss=provider.issuer, sid=session_id, sub=sub)
        apps = await self._history.app_histories(question)
        return JSONResponse(
            {
                "session": self._acts.shown(session) if session is not None else None,
                "apps": as_json(apps),
                "ending": await self._acts.termination_json(ending) if ending is not None else None,
            }
        )

    async def state(self, request: Request) -> Response:
        """How far the end of a session is."""
        provider, session_id, _ = self._asked_for(request, ["issuer"])
        ending = await self._acts.watch(request, provider, session_id)
        if ending is None:
            raise not_found("nobody has ended a session of this id here, or it was days ago")
        return JSONResponse(await self._acts.termination_json(ending))

    # -- acts ------------------------------------------------------------------------------

    async def end(self, request: Request) -> Response:
        """End one session: 202, for it has only begun."""
        provider, session_id, user = self._asked_for(request, ["issuer", "user", *_ORDER])
        ending, begun = await self._acts.end(
            request, provider, session_id, _order(request), user=user
        )
        shown = await self._acts.termination_json(ending)
        if not begun:
            return JSONResponse(shown, 200 if ending.outcome else 202)
        where = f"/api/sessions/{quote(session_id, safe='')}/state"
        return JSONResponse(shown, 202, {"Location": self._at(where, provider)})

    async def end_all(self, request: Request) -> Response:
        """End all sessions of a user, or all but one."""
        found = params.query(request, ["issuer", "except", *_ORDER])
        provider, order = self._acts.provider(found.get("issuer")), _order(request)
        user = provider_id(params.segment(request, "user"))
        ended = await self._acts.end_all(request, provider, user, order, keep=found.get("except"))
        of_user = ended.of_user
        body = {
            "endings": [await self._acts.termination_json(one) for one in ended.endings],
            "of_user": None if of_user is None else await self._acts.termination_json(of_user),
            "more": ended.more,
        }
        if of_user is None:
            return JSONResponse(body, 202 if ended.endings else 200)
        where = f"/api/users/{quote(user, safe='')}/sessions/state"
        return JSONResponse(body, 202, {"Location": self._at(where, provider)})

    async def state_of_user(self, request: Request) -> Response:
        """How far the end of all sessions of a user is."""
        found = params.query(request, ["issuer"])
        provider = self._acts.provider(found.get("issuer"))
        user = provider_id(params.segment(request, "user"))
        ending = await self._acts.watch_of_user(request, provider, user)
        if ending is None:
            raise not_found("nobody has ended all sessions of this user here, or it was days ago")
        return JSONResponse(await self._acts.termination_json(ending))

    # -- parts -----------------------------------------------------------------------------

    def _asked_for(
        self, request: Request, allowed: list[str]
    ) -> tuple[SessionProvider, str, str | None]:
        """The provider, the session's id, and its user where that was said."""
        found = params.query(request, allowed)
        user = provider_id(found["user"]) if "user" in found else None
        session_id = provider_id(params.segment(request, "session"))
        return self._acts.provider(found.get("issuer")), session_id, user

    def _at(self, path: str, provider: SessionProvider) -> str:
        if len(self._acts.providers) == 1:
            return path
        return f"{path}?issuer={quote(provider.issuer, safe='')}"


def _order(request: Request) -> TerminationRequest:
    """Raises `ApiFault`."""
    found = dict(request.query_params)
    if is_reserved(found.get("by", "")):
        raise bad_request(RESERVED_NAME)
    return TerminationRequest(
        params.flag(found, "refresh_tokens"),
        found.get("by", params.operator(request).who),
        found.get("reason"),
    )
