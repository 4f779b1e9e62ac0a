"""Extension for Flask, which ends sessions after a logout.

    BackchannelLogout(app, guard=guard, signed_in="user", login_url="/login")

It reads ``flask.session`` before any other function of the app, whether that is Flask's signed
cookie or a session on the server (Flask-Session). It does not see sign-ins outside the session:
neither API keys nor Flask-Login's "remember me" cookie, which opens a new session without a login
at the provider. Do not use that cookie.
"""

from functools import partial

import flask
from flask.sessions import NullSession

from backchannel_logout.gate import Gate, GateResponse, NoSession, OnUnidentified, SignedIn
from backchannel_logout.guard import SessionGuard
from backchannel_logout.wsgi import request_info


class BackchannelLogout:
    """Checks the session of each request with ``guard``; see `gate.Gate` for the other options.

    A dead session is cleared and answered 401, or a page is redirected to ``login_url``; while the
    guard cannot tell, the answer is 503. A streaming response is completed.
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
        """Check the requests of ``app``, for apps that are made by a factory."""
        app.extensions["backchannel_logout"] = self
        # First, whatever was registered before: no function of the app may see a dead session.
        app.before_request_funcs.setdefault(None, []).insert(0, self._check)

    def _check(self) -> flask.Response | None:
        session = flask.session
        # The proxy's class is that of the session behind it.
        if isinstance(session, NullSession):
            raise NoSession(
                "no session in Flask: set app.secret_key, or install a session on the server, "
                "such as Flask-Session"
            )
        request = partial(request_info, flask.request.environ)
        answer = self._gate.check(self._guard, session, request)
        if not isinstance(answer, GateResponse):
            return None
        if answer.ended:
            session.clear()
        return flask.Response(answer.body, answer.status, answer.headers)
