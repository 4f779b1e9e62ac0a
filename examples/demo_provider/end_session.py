"""`/end-session`: OpenID Connect RP-Initiated Logout 1.0."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .config import Client
from .state import Provider
from .web import checked_form, csrf_field, current_session, expired_form, once_each, page, redirect


class EndSession:
    """Asks the user, ends the browser's session, and redirects to the client's registered URI.

    It always asks (section 2 allows that), so that a link from elsewhere cannot sign a user out.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/end-session", self.ask, methods=["GET"]),
            Route("/end-session", self.end, methods=["POST"]),
        ]

    async def ask(self, request: Request) -> Response:
        if current_session(request, self._provider) is None:
            return self._back(request)
        return page(
            "Sign out?",
            "<p>This ends your session here and in every application that it was used for.</p>"
            f'<form method="post">{csrf_field(request)}'
            '<button class="end">Sign out</button></form>',
        )

    async def end(self, request: Request) -> Response:
        if await checked_form(request) is None:
            return expired_form()
        session = current_session(request, self._provider)
        if session is not None and (deliveries := self._provider.logouts.end(session.id)):
            await deliveries
        request.session.clear()
        return self._back(request)

    def _back(self, request: Request) -> Response:
        parameters = once_each(request.query_params) or {}
        target = parameters.get("post_logout_redirect_uri")
        client = self._client(parameters)
        if target and client is not None and target == client.post_logout_redirect_uri:
            state = parameters.get("state")
            return redirect(target, {"state": state} if state else None)
        return page("Signed out", '<p>You are signed out. <a href="/login">Sign in</a></p>')

    def _client(self, parameters: dict[str, str]) -> Client | None:
        """The client of ``client_id`` or of the ID token; they must not differ."""
        client_id = parameters.get("client_id")
        if hint := parameters.get("id_token_hint"):
            hinted = self._provider.signer.client_of(hint)
            if hinted is None or client_id not in (None, hinted):
                return None
            client_id = hinted
        return self._provider.config.client(client_id)
