"""Middleware for WSGI apps whose session stands in the environ: ends what a logout has ended.

    app = BackchannelLogoutMiddleware(app, guard, signed_in="user", login_url="/login")
    app = beaker.middleware.SessionMiddleware(app, options)

It looks at ``environ[session_key]``, so the session middleware must be around it, as above.
Flask keeps its session elsewhere, see `flask`; so does Django, see `django`.
"""

from collections.abc import Iterable, MutableMapping
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from backchannel_logout.checker import RevocationUnknown
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
    """Asks ``guard`` about the session of each request; see `gate.Gate` for the rest.

    A dead session is cleared and answered 401, or sent to ``login_url`` where a page was asked
    for; where the guard can not tell, 503. ``session_key`` is the session's place in the environ.
    A response that has begun runs to its end: WSGI has no way to break it off.
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
                "middleware must be put around BackchannelLogoutMiddleware, so after it"
            )
        finding = self._gate.examine(session)
        if finding is True:
            return self.app(environ, start_response)
        try:
            dead = finding is False or self._guard.is_revoked(finding)
        except RevocationUnknown as error:
            return _say(self._gate.unknown(seen(environ), error), environ, start_response)
        if dead:
            _end(session)
            return _say(self._gate.ended(seen(environ)), environ, start_response)
        return self.app(environ, start_response)


def seen(environ: WSGIEnvironment) -> RequestInfo:
    """What the answer depends on."""
    return RequestInfo(
        accept=environ.get("HTTP_ACCEPT", ""),
        cookies=environ.get("HTTP_COOKIE", ""),
        secure=environ["wsgi.url_scheme"] == "https",
    )


def _end(session: MutableMapping[str, Any]) -> None:
    """Clear the session, and have it stored so.

    Beaker stores what it has loaded, not what was cleared, unless it is told; told `invalidate`,
    it leaves the old session in its store; and its cookie session can not be deleted once it
    is clear.
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


def _say(
    answer: GateResponse, environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    """Send the answer in place of the app's."""
    headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
    start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]
