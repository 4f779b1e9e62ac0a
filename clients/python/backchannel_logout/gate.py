"""The rules that every middleware shares: which session to check, and how to answer for a dead one.

A middleware (`asgi`, `wsgi`, `django`, `flask`) fetches the session, calls `Gate.check` or
`Gate.check_async`, and sends the answer in its framework's own way.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from backchannel_logout.contract.session import Session, SessionNotIdentified, holds_login
from backchannel_logout.guard import AsyncSessionGuard, SessionGuard
from backchannel_logout.guard_errors import RevocationUnknown

log = logging.getLogger("backchannel_logout")

SignedIn = str | Callable[[Mapping[str, Any]], bool]
"""The session member that shows that a user is signed in, or a function of the session."""

LoginUrl = str | Callable[[], str] | None
"""Where pages are redirected; a function when it depends on the request."""

OnUnidentified = Literal["end", "allow"]

# Set when a page is redirected to the login. If the session is dead again while the cookie lives,
# another redirect would loop.
LOOP_COOKIE = "bcl_ended"
_LOOP_SECONDS = 60

# A failover of Redis takes seconds.
_RETRY_AFTER = "5"

_NO_STORE = ("Cache-Control", "no-store")


class NoSession(RuntimeError):
    """The middleware finds no session: the middlewares are in the wrong order."""


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What an answer depends on."""

    accept: str
    cookies: str
    secure: bool

    @property
    def wants_page(self) -> bool:
        """Whether a person waits for a page; otherwise it is an API call."""
        return "text/html" in self.accept.lower()

    @property
    def ended_before(self) -> bool:
        cookies = self.cookies.split(";")
        return any(cookie.strip().startswith(f"{LOOP_COOKIE}=") for cookie in cookies)


@dataclass(frozen=True, slots=True)
class GateResponse:
    """A whole response, in place of the app's. ``ended``: the session is dead, so clear it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    ended: bool


class Gate:
    """The rules of one app's middleware.

    ``signed_in`` shows that a user is signed in: the name of a session member, or a function of the
    session. ``login_url`` is where pages are redirected when their session is dead; without it they
    get a 401 page. ``on_unidentified`` is for signed-in sessions for which `remember` was never
    called, such as those from before this was installed: ``"end"`` them, or ``"allow"`` them, which
    no logout will ever reach.
    """

    def __init__(
        self,
        *,
        signed_in: SignedIn,
        login_url: LoginUrl = None,
        on_unidentified: OnUnidentified = "end",
    ) -> None:
        if on_unidentified not in ("end", "allow"):
            raise ValueError('on_unidentified is "end" or "allow"')
        if isinstance(login_url, str):
            check_login_url(login_url)
        self._signed_in: Callable[[Mapping[str, Any]], bool] = (
            signed_in if callable(signed_in) else lambda session: bool(session.get(signed_in))
        )
        self._login_url = login_url
        self._on_unidentified = on_unidentified
        self._logged = False

    # -- the decision: once for threads, once for asyncio -----------------------------------

    def check(
        self, guard: SessionGuard, session: Mapping[str, Any], request: Callable[[], RequestInfo]
    ) -> Session | GateResponse | None:
        """A `Session` that is alive, None if there is nothing to check, or the answer to send.

        ``request`` is only called for an answer.
        """
        checked = self.examine(session)
        if not isinstance(checked, Session):
            return None if checked else self.ended(request())
        try:
            dead = guard.is_revoked(checked)
        except RevocationUnknown as error:
            return self.unknown(request(), error)
        return self.ended(request()) if dead else checked

    async def check_async(
        self,
        guard: AsyncSessionGuard,
        session: Mapping[str, Any],
        request: Callable[[], RequestInfo],
    ) -> Session | GateResponse | None:
        """`check`, for asyncio."""
        checked = self.examine(session)
        if not isinstance(checked, Session):
            return None if checked else self.ended(request())
        try:
            dead = await guard.is_revoked(checked)
        except RevocationUnknown as error:
            return self.unknown(request(), error)
        return self.ended(request()) if dead else checked

    def examine(self, session: Mapping[str, Any]) -> Session | bool:
        """The login to check; or True: let the request through, False: end the session."""
        if holds_login(session):
            try:
                return Session.from_mapping(session)
            except SessionNotIdentified:
                pass
        elif not self._signed_in(session):
            return True
        if not self._logged:
            self._logged = True
            log.warning(
                "a signed-in session holds no login (remember() was not called for it); "
                "on_unidentified=%s; this is logged once",
                self._on_unidentified,
            )
        return self._on_unidentified == "allow"

    # -- the answers ------------------------------------------------------------------------

    def ended(self, request: RequestInfo) -> GateResponse:
        """The answer when the session is dead."""
        if not request.wants_page:
            return _json(401, "session_ended")
        login_url = self._login_url() if callable(self._login_url) else self._login_url
        if login_url is None:
            return _page(401, "You have been signed out.")
        if request.ended_before:
            # Dead again right after a login: another redirect would not help.
            link = f'<p><a href="{escape(login_url)}">Sign in</a></p>'
            return _page(401, "You were signed out again, right after you had signed in.", link)
        cookie = f"{LOOP_COOKIE}=1; Max-Age={_LOOP_SECONDS}; Path=/; HttpOnly; SameSite=Lax"
        headers = (
            ("Location", login_url),
            ("Set-Cookie", cookie + ("; Secure" if request.secure else "")),
            _NO_STORE,
        )
        return GateResponse(303, headers, b"", ended=True)

    @staticmethod
    def unknown(request: RequestInfo, error: Exception) -> GateResponse:
        """The answer while the state is unknown: the session stays, its user was not signed out."""
        log.error("cannot tell whether a session was ended: %s", error)
        if request.wants_page:
            return _page(503, "We cannot check your session now. Please try again.")
        return _json(503, "temporarily_unavailable")


def check_login_url(url: str) -> None:
    """Raise ``ValueError`` for a value that cannot be a ``Location`` header."""
    if not (url.isprintable() and url.isascii()):
        raise ValueError("login_url is not a URL")


def _json(status: int, code: str) -> GateResponse:
    return _answer(status, "application/json", f'{{"error":"{code}"}}')


def _page(status: int, sentence: str, more: str = "") -> GateResponse:
    title = "Try again" if status == 503 else "Signed out"
    html = f"<!doctype html><meta charset=utf-8><title>{title}</title><p>{sentence}</p>{more}"
    return _answer(status, "text/html; charset=utf-8", html)


def _answer(status: int, content_type: str, text: str) -> GateResponse:
    headers = [("Content-Type", content_type), _NO_STORE]
    if status == 503:
        headers.append(("Retry-After", _RETRY_AFTER))
    return GateResponse(status, tuple(headers), text.encode(), ended=status == 401)
