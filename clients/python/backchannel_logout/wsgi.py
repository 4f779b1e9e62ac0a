"""Middleware for WSGI apps with a session in the environ, which ends sessions after a logout.

    app = BackchannelLogoutMiddleware(app, guard, signed_in="user", login_url="/login")
    app = beaker.middleware.SessionMiddleware(app, options)

It reads ``environ[session_key]``, so the session middleware must wrap it, as above. For Flask and
Django, whose sessions are elsewhere, see `flask` and `django`.
"""

from collections.abc import Iterable, MutableMapping
from functools import partial
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from backchannel_logout.gate import (
    Gate,
    GateResponse,
    NoSession,
    OnUnidentified,
    RequestInfo,
    SignedIn,
)
from backchannel_logout.guard import SessionGuard


class BackchannelLogoutMiddleware:
    """Checks the session of each request with ``guard``; see `gate.Gate` for the other options.

    A dead session is cleared and answered 401, or a page is redirected to ``login_url``; while the
    guard cannot tell, the answer is 503. ``session_key`` is the session's key in the environ. A
    response that has begun is completed: WSGI cannot abort it.
    """

    def __init__(
        self,
        app: WSGIApplication,
        guard: SessionGuard,
        *,
        signed_in: SignedIn,
        login_url: str | None = None,
        on_unidentified: OnUnidentified = "end",
        session_key: str = "beaker.session",
    ) -> None:
        self.app = app
        self._guard = guard
        self._gate = Gate(signed_in=signed_in, login_url=login_url, on_unidentified=on_unidentified)
        self._session_key = session_key

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        session = environ.get(self._session_key)
        if session is None:
            raise NoSession(
                f"no {self._session_key!r} in the environ: swap the middlewares. The session "
                "middleware must wrap BackchannelLogoutMiddleware, so add it afterwards"
            )
        answer = self._gate.check(self._guard, session, partial(request_info, environ))
        if not isinstance(answer, GateResponse):
            return self.app(environ, start_response)
        if answer.ended:
            _clear(session)
        return _send(answer, environ, start_response)


def request_info(environ: WSGIEnvironment) -> RequestInfo:
    return RequestInfo(
        accept=environ.get("HTTP_ACCEPT", ""),
        cookies=environ.get("HTTP_COOKIE", ""),
        secure=environ["wsgi.url_scheme"] == "https",
    )


def _clear(session: MutableMapping[str, Any]) -> None:
    """Clear the session and save it.

    Beaker saves the data it has loaded unless a method tells it otherwise: `invalidate` leaves the
    old session in its store, and a cookie session cannot be deleted after `clear`.
    """
    methods = (getattr(session, name, None) for name in ("delete", "invalidate"))
    discard = next(filter(callable, methods), None)
    if discard is not None:
        discard()
        session.clear()
        return
    session.clear()
    save = getattr(session, "save", None)
    if callable(save):
        save()


def _send(
    answer: GateResponse, environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
    start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]
