"""`/api/v2`: sessions, with the paths and the JSON of Auth0's Management API.

Unlike Auth0, it also has `/api/deliveries`: the result of each logout token.
"""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import config
from .machine import MachineTokens
from .sessions import ABSOLUTE_SECONDS, IDLE_SECONDS, Session
from .state import Provider
from .web import NO_STORE

# Auth0's default and maximum page size.
PAGE_SIZE = 50
MAX_PAGE_SIZE = 100

_Endpoint = Callable[[Request], Awaitable[Response]]


class SessionApi:
    """For programs with the API's bearer token, or a token of `MachineTokens`."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._tokens = MachineTokens(provider)

    @property
    def routes(self) -> list[Route]:
        one, of_user = "/api/v2/sessions/{id}", "/api/v2/users/{id}/sessions"
        settings = "/api/v2/tenants/settings"
        return [
            *self._tokens.routes,
            Route(one, self._guarded(self.get_one), methods=["GET"]),
            Route(one, self._guarded(self.delete_one), methods=["DELETE"]),
            # No refresh tokens could outlive a session here.
            Route(f"{one}/revoke", self._guarded(self.delete_one), methods=["POST"]),
            Route(of_user, self._guarded(self.get_of_user), methods=["GET"]),
            Route(of_user, self._guarded(self.delete_of_user), methods=["DELETE"]),
            Route(settings, self._guarded(self.get_settings), methods=["GET"]),
            Route("/api/deliveries", self._guarded(self.get_deliveries), methods=["GET"]),
        ]

    async def get_one(self, request: Request) -> Response:
        session = self._provider.sessions.find(request.path_params["id"])
        return _fault(404) if session is None else _json(_as_auth0(session))

    async def delete_one(self, request: Request) -> Response:
        """202: the session has ended, logout tokens follow."""
        deliveries = self._provider.logouts.end(request.path_params["id"])
        return _fault(404) if deliveries is None else Response(status_code=202, headers=NO_STORE)

    async def get_of_user(self, request: Request) -> Response:
        """A page of the user's sessions. ``next``, if present, is ``from`` of the next page."""
        user = config.user(request.path_params["id"])
        if user is None:
            return _fault(404)
        created_at, _, session_id = request.query_params.get("from", "0_").partition("_")
        try:
            start = float(created_at), session_id
            take = min(int(request.query_params.get("take", PAGE_SIZE)), MAX_PAGE_SIZE)
        except ValueError:
            return _fault(400)
        if take < 1:
            return _fault(400)
        sessions = sorted(self._provider.sessions.of_user(user.id), key=_place)
        following = [session for session in sessions if _place(session) > start]
        page, rest = following[:take], following[take:]
        answer: dict[str, Any] = {"sessions": [_as_auth0(session) for session in page]}
        if rest:
            answer["next"] = "{!r}_{}".format(*_place(page[-1]))
        return _json(answer)

    async def delete_of_user(self, request: Request) -> Response:
        """202, even if there was nothing to end."""
        user = config.user(request.path_params["id"])
        if user is None:
            return _fault(404)
        for session in self._provider.sessions.of_user(user.id):
            self._provider.logouts.end(session.id)
        return Response(status_code=202, headers=NO_STORE)

    async def get_settings(self, _: Request) -> Response:
        """The lifetimes of sessions, in hours."""
        hours = {
            "session_lifetime": ABSOLUTE_SECONDS // 3600,
            "idle_session_lifetime": IDLE_SECONDS // 3600,
        }
        return _json(hours)

    async def get_deliveries(self, _: Request) -> Response:
        """The last deliveries, the oldest first."""
        return _json({"deliveries": list(map(asdict, self._provider.logouts.deliveries))})

    def _guarded(self, endpoint: _Endpoint) -> _Endpoint:
        @functools.wraps(endpoint)
        async def guarded(request: Request) -> Response:
            if not self._tokens.allow(request.headers.get("authorization", "")):
                return _fault(401)
            return await endpoint(request)

        return guarded


ASN = "64496"
"""Reserved for documentation (RFC 5398)."""


def _place(session: Session) -> tuple[float, str]:
    """Its position in the list, so that paging continues correctly after the last one has ended."""
    return session.created_at, session.id


def _as_auth0(session: Session) -> dict[str, Any]:
    created_at, seen_at = _time(session.created_at), _time(session.last_seen_at)
    return {
        "id": session.id,
        "user_id": session.user_id,
        "created_at": created_at,
        "updated_at": seen_at,
        "authenticated_at": created_at,
        "idle_expires_at": _time(session.idle_until),
        "expires_at": _time(session.ends_at),
        "last_interacted_at": seen_at,
        "device": {
            "initial_user_agent": session.first_device.user_agent,
            "initial_ip": session.first_device.ip,
            "initial_asn": ASN,
            "last_user_agent": session.last_device.user_agent,
            "last_ip": session.last_device.ip,
            "last_asn": ASN,
        },
        "clients": [{"client_id": client_id} for client_id in session.client_ids],
        # Auth0's name of the method for a login without proof.
        "authentication": {"methods": [{"name": "mock", "timestamp": created_at}]},
        "cookie": {"mode": "non-persistent"},
    }


def _time(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


def _json(content: dict[str, Any]) -> Response:
    return JSONResponse(content, headers=NO_STORE)


def _fault(status: int) -> Response:
    phrase = HTTPStatus(status).phrase
    headers = {**NO_STORE, **({"WWW-Authenticate": "Bearer"} if status == 401 else {})}
    body = {"statusCode": status, "error": phrase, "message": phrase}
    return JSONResponse(body, status_code=status, headers=headers)
