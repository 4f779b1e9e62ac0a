"""Extension for Flask: ends what a logout has ended.

    BackchannelLogout(app, guard=guard, signed_in="user", login_url="/login")

It looks at ``flask.session`` before any other function of the app does, whichever session that
is: Flask's signed cookie, or one on the server as of Flask-Session. What signs a user in beside
the session is not seen: neither a key for an API nor Flask-Login's "remember me" cookie, which
opens a new session without a login at the provider. Do without it.
"""

import flask
from flask.sessions import NullSession

from backchannel_logout.checker import RevocationUnknown
from backchannel_logout.gate import Gate, GateResponse, NoSession, OnUnidentified, SignedIn
from backchannel_logout.guard import SessionGuard
from backchannel_logout.wsgi import seen


class BackchannelLogout:
    """Asks ``guard`` about the session of each request; see `gate.Gate` for the rest.

    A dead session is cleared and answered 401, or sent to ``login_url`` where a page was asked
    for; where the guard can not tell, 503. A response that streams runs to its end.
    """

    def __init__(
        self,
        app: flask.Flask | None = None,
        *,
        guard: SessionGuard,
        signed_in: SignedIn,
        login_url: str | None = None,
        on_unidentified: OnUnidentified = "end",
    ) -> None:
        self._guard = guard
        self._gate = Gate(signed_in=signed_in, login_url=login_url, on_unidentified=on_unidentified)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Watch over the requests of ``app``; for apps that a function makes."""
        app.extensions["backchannel_logout"] = self
        # First, whatever was registered before: no function of the app may see a dead session.
        app.before_request_funcs.setdefault(None, []).insert(0, self._examine)

    def _examine(self) -> flask.Response | None:
        session = flask.session
        # The proxy's class is that of the session behind it.
        if isinstance(session, NullSession):
            raise NoSession(
                "no session in Flask: set app.secret_key, or install a session on the server, "
                "such as Flask-Session"
            )
        finding = self._gate.examine(session)
        if finding is True:
            return None
        try:
            dead = finding is False or self._guard.is_revoked(finding)
        except RevocationUnknown as error:
            return _response(self._gate.unknown(seen(flask.request.environ), error))
        if not dead:
            return None
        session.clear()
        return _response(self._gate.ended(seen(flask.request.environ)))


def _response(answer: GateResponse) -> flask.Response:
    return flask.Response(answer.body, answer.status, answer.headers)
