"""What every middleware shares: whose session this is, and what to answer when it is dead. Pure.

The middlewares (`asgi`, `wsgi`, `django`, `flask`) fetch the session, ask the guard and send
the answer, each in its framework's own way.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from backchannel_logout.contract.session import Session, SessionNotIdentified, holds_login

log = logging.getLogger("backchannel_logout")

SignedIn = str | Callable[[Mapping[str, Any]], bool]
"""The member of the session that says that somebody is signed in, or a function of it."""

OnUnidentified = Literal["end", "allow"]

# Told to the browser when a page is sent to the login. Is the session dead again while it
# lives, another redirect would only go round in circles.
LOOP_COOKIE = "bcl_ended"
_LOOP_SECONDS = 60

# A failover of Redis takes seconds.
_RETRY_AFTER = "5"

_NO_STORE = ("Cache-Control", "no-store")


class NoSession(RuntimeError):
    """The middleware has no session to look at: the middlewares are in the wrong order."""


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What an answer depends on in the request."""

    accept: str
    cookies: str
    secure: bool

    @property
    def wants_page(self) -> bool:
        """Whether a person waits for a page; else it is a call of an API."""
        return "text/html" in self.accept.lower()

    @property
    def ended_before(self) -> bool:
        return any(one.strip().startswith(f"{LOOP_COOKIE}=") for one in self.cookies.split(";"))


@dataclass(frozen=True, slots=True)
class GateResponse:
    """A whole response, in place of the app's."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Gate:
    """The rules of one app's middleware.

    ``signed_in`` says where the app notes that somebody is signed in: the name of a member of
    the session, or a function of the session. ``login_url`` is where pages are sent when their
    session is dead; without it they get a 401 page. ``on_unidentified``: what happens to a
    signed-in session for which `remember` was never called, as those from before this was
    installed: ``"end"`` them, or ``"allow"`` them, which no logout will ever reach.
    """

    def __init__(
        self,
        *,
        signed_in: SignedIn,
        login_url: str | None = None,
        on_unidentified: OnUnidentified = "end",
    ) -> None:
        if on_unidentified not in ("end", "allow"):
            raise ValueError('on_unidentified is "end" or "allow"')
        if login_url is not None and not (login_url.isprintable() and login_url.isascii()):
            raise ValueError("login_url is not a URL")
        self._signed_in: Callable[[Mapping[str, Any]], bool] = (
            signed_in if callable(signed_in) else lambda session: bool(session.get(signed_in))
        )
        self._login_url = login_url
        self._on_unidentified = on_unidentified
        self._told = False

    def examine(self, session: Mapping[str, Any]) -> Session | bool:
        """Whom to ask the guard about; or True: let the request through, False: end it."""
        if holds_login(session):
            try:
                return Session.from_mapping(session)
            except SessionNotIdentified:
                pass
        elif not self._signed_in(session):
            return True
        if not self._told:
            self._told = True
            log.warning(
                "a signed-in session holds no login (remember() was not called for it); "
                "on_unidentified=%s; this is said once",
                self._on_unidentified,
            )
        return self._on_unidentified == "allow"

    def ended(self, seen: RequestInfo) -> GateResponse:
        """The answer in place of the app's when the session is dead."""
        if not seen.wants_page:
            return _json(401, "session_ended")
        if self._login_url is None:
            return _page(401, "You have been signed out.")
        if seen.ended_before:
            # Dead again right after a login: sending the browser there once more helps nobody.
            link = f'<p><a href="{escape(self._login_url)}">Sign in</a></p>'
            return _page(401, "You were signed out again, right after you had signed in.", link)
        cookie = f"{LOOP_COOKIE}=1; Max-Age={_LOOP_SECONDS}; Path=/; HttpOnly; SameSite=Lax"
        headers = (
            ("Location", self._login_url),
            ("Set-Cookie", cookie + ("; Secure" if seen.secure else "")),
            _NO_STORE,
        )
        return GateResponse(303, headers, b"")

    @staticmethod
    def unknown(seen: RequestInfo, error: Exception) -> GateResponse:
        """The answer while nobody knows: the session stays, its user was not signed out."""
        log.error("can not tell whether a session was ended: %s", error)
        if seen.wants_page:
            return _page(503, "We cannot check your session now. Please try again.")
        return _json(503, "temporarily_unavailable")


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
    return GateResponse(status, tuple(headers), text.encode())
