"""`/login`: choose a user. There are no passwords, because there is nothing to protect."""

from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from . import config
from .config import USERS
from .sessions import RequestDevice
from .state import Provider
from .web import checked_form, csrf_field, current_session, expired_form, page, redirect, sign_in


class Login:
    """The login page. Its query is that of the authorization request, which continues after it."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/login", self.show, methods=["GET"]),
            Route("/login", self.sign_in, methods=["POST"]),
        ]

    async def show(self, request: Request) -> HTMLResponse:
        client = self._provider.config.client(request.query_params.get("client_id"))
        to = f" to <b>{escape(client.client_id)}</b>" if client else ""
        choices = "".join(
            f'<button name="user" value="{escape(user.id)}">{escape(user.name)}</button>'
            for user in USERS
        )
        # Without an action, the form is sent to this URL, including its query.
        return page(
            "Sign in",
            f"<p>Choose who signs in{to}. This is a demonstration: there are no passwords.</p>"
            f'<form method="post" class="choices">{csrf_field(request)}{choices}</form>',
        )

    async def sign_in(self, request: Request) -> Response:
        """Creates a session, and continues with the authorization request if there is one.

        A previous session of the browser ends, and its clients get logout tokens.
        """
        fields = await checked_form(request)
        if fields is None:
            return expired_form()
        user = config.user(fields.get("user"))
        if user is None:
            return expired_form()
        if old := current_session(request, self._provider):
            self._provider.logouts.end(old.id)
        sign_in(request, self._provider.sessions.create(user.id, RequestDevice.of(request)))
        query = request.url.query
        # Only to fixed paths of our own, never to a URL in the query.
        return redirect(f"/authorize?{query}" if query else "/sessions")
