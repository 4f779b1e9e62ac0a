"""`/authorize`: OpenID Connect Core 1.0, section 3.1.2, with PKCE (RFC 7636) required."""

import re
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .codes import CHALLENGE, Grant
from .config import Client
from .sessions import Session
from .state import Provider
from .web import current_session, once_each, problem, redirect

# The login that follows fulfils these. If they were kept, they would demand another one forever.
LOGIN_FORCING = ("prompt", "max_age")

_PROMPTS = {"none", "login", "consent", "select_account"}


class _Fault(Exception):
    """An error that is sent to the client's redirect_uri."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.answer = {"error": error, "error_description": description}


class Authorization:
    """The authorization endpoint."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    @property
    def routes(self) -> list[Route]:
        return [Route("/authorize", self.answer, methods=["GET", "POST"])]

    async def answer(self, request: Request) -> Response:
        """Redirects with a code, to the login page, or with an error."""
        if request.method == "POST":
            async with request.form() as form:
                parameters = once_each(form)
        else:
            parameters = once_each(request.query_params)
        if parameters is None:
            return problem("A parameter of this sign-in is repeated.")
        # An unknown client, or an unregistered URI, gets no redirect (RFC 6749, section 4.1.2.1).
        client = self._provider.config.client(parameters.get("client_id"))
        if client is None:
            return problem("No application with this client_id is registered.")
        if parameters.get("redirect_uri") != client.redirect_uri:
            return problem("This redirect_uri is not registered for this client_id.")
        try:
            _check(parameters)
            session = self._usable_session(parameters, current_session(request, self._provider))
            if session is None:
                kept = {k: v for k, v in parameters.items() if k not in LOGIN_FORCING}
                return redirect("/login", kept)
            answer = {"code": self._code(parameters, client, session)}
        except _Fault as fault:
            answer = fault.answer
        if state := parameters.get("state"):
            answer["state"] = state
        # RFC 9207: tells a client of several providers which one answered.
        return redirect(client.redirect_uri, answer | {"iss": self._provider.config.issuer})

    def _usable_session(
        self, parameters: dict[str, str], session: Session | None
    ) -> Session | None:
        """The browser's session, or None if the user has to sign in (again)."""
        prompts = set(parameters.get("prompt", "").split())
        if session is not None and "max_age" in parameters:
            age = self._provider.clock() - session.created_at
            session = session if age <= int(parameters["max_age"]) else None
        if session is None and "none" in prompts:
            raise _Fault("login_required", "the user has to sign in")
        return None if prompts & {"login", "select_account"} else session

    def _code(self, parameters: dict[str, str], client: Client, session: Session) -> str:
        return self._provider.codes.issue(
            Grant(
                client_id=client.client_id,
                redirect_uri=client.redirect_uri,
                code_challenge=parameters["code_challenge"],
                session_id=session.id,
                scopes=frozenset(parameters["scope"].split()),
                nonce=parameters.get("nonce"),
            )
        )


def _check(parameters: dict[str, str]) -> None:
    """Raises the first fault in a request of a known client."""
    for name in ("request", "request_uri", "registration"):
        if name in parameters:
            raise _Fault(f"{name}_not_supported", f"{name} is not supported")
    if "response_type" not in parameters:
        raise _Fault("invalid_request", "response_type is required")
    if parameters["response_type"] != "code":
        raise _Fault("unsupported_response_type", "only response_type=code")
    if "openid" not in parameters.get("scope", "").split():
        raise _Fault("invalid_scope", "the scope must contain openid")
    for name, fits, sentence in _RULES:
        if not fits(parameters.get(name)):
            raise _Fault("invalid_request", sentence)


def _fits_challenge(value: str | None) -> bool:
    return value is not None and CHALLENGE.fullmatch(value) is not None


def _fits_prompt(value: str | None) -> bool:
    prompts = set((value or "").split())
    return prompts <= _PROMPTS and not ("none" in prompts and len(prompts) > 1)


def _fits_max_age(value: str | None) -> bool:
    return value is None or re.fullmatch("[0-9]{1,9}", value) is not None


_RULES: tuple[tuple[str, Callable[[str | None], bool], str], ...] = (
    ("response_mode", lambda value: value in (None, "query"), "only response_mode=query"),
    ("code_challenge_method", lambda value: value == "S256", "PKCE with S256 is required"),
    ("code_challenge", _fits_challenge, "a code_challenge is a SHA-256 in base64url"),
    ("prompt", _fits_prompt, "prompt: an unknown value, or none together with another"),
    ("max_age", _fits_max_age, "max_age is a number of seconds"),
)
"""Parameter, check, and error description."""
