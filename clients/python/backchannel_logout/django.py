"""Middleware for Django, under WSGI and ASGI: ends what a logout has ended.

    MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "backchannel_logout.django.BackchannelLogoutMiddleware",
        ...
    ]
    BACKCHANNEL_LOGOUT = {"redis": "redis://...", "app": "shop"}

and, in the view that signs users in:

    remember(request, claims)
    login(request, user)

Options of ``BACKCHANNEL_LOGOUT``, the first two required: ``redis`` (URL), ``app`` (its name in
the receiver's settings), ``login_url`` (default ``LOGIN_URL``; ``None``: a 401 page),
``on_unidentified``, ``backends`` or ``signed_in``, and the guard's ``on_outage``, ``timeout``,
``max_session_age``, ``near_cache`` and ``max_stale``.

``backends`` are the authentication backends whose sign-ins are OpenID Connect's, by their dotted
names: sessions of others, as of a password for ``/admin``, are left alone. ``signed_in`` says it in
another way: the name of a member of the session that only those have, or a function of the session.

Django 5.1 or later: only since then is a session read under ASGI without blocking.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from http.cookies import SimpleCookie
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

# Django comes without types.
from django.conf import settings  # type: ignore[import-untyped]
from django.contrib.auth import (  # type: ignore[import-untyped]
    BACKEND_SESSION_KEY,
    SESSION_KEY,
    user_logged_in,
)
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]
from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped]
from django.shortcuts import resolve_url  # type: ignore[import-untyped]
from django.urls import NoReverseMatch  # type: ignore[import-untyped]

from backchannel_logout.checker import RevocationUnknown
from backchannel_logout.contract import session
from backchannel_logout.django_options import read_options
from backchannel_logout.gate import Gate, GateResponse, NoSession, RequestInfo, SignedIn, log
from backchannel_logout.guard import AsyncSessionGuard, SessionGuard

__all__ = ["BackchannelLogoutMiddleware", "remember"]

_PENDING = "_backchannel_logout_login"


@dataclass(slots=True)
class _Login:
    """What is known of the login of this request; see `remember`."""

    happened: bool = False
    members: dict[str, Any] | None = None
    """For the login that is still to come."""


def remember(request: HttpRequest, id_token_claims: Mapping[str, Any]) -> None:
    """Say which login it is, right before or after ``django.contrib.auth.login()``.

    ``id_token_claims`` are those of the **verified** ID token of this login. They are stored
    when `login()` has signed the user in, since it drops what the session held before where
    another user was signed in. So a call without a login, as at a refresh of the tokens,
    changes nothing, and is logged. Raises `SessionNotIdentified` when the claims are not those
    of an ID token.
    """
    members: dict[str, Any] = {}
    session.remember(members, id_token_claims)
    store = _session_of(request)
    login = _login_of(store)
    if login.happened:
        _replace(store, members)
    else:
        login.members = members


def _on_login(request: HttpRequest | None = None, **_: object) -> None:
    """Store what was remembered. A login that was not, as with a password, is another one.

    `login()` of the same user keeps what the session held: the old members would let the
    logout of an earlier login, and never that of this one, end the session.
    """
    store = getattr(request, "session", None)
    if store is None:
        return  # a login without a session, as with a token
    login = _login_of(store)
    members, login.happened, login.members = login.members, True, None
    _replace(store, members or {})


def _replace(store: Any, members: Mapping[str, Any]) -> None:
    session.forget(store)
    store.update(members)


user_logged_in.connect(_on_login, dispatch_uid="backchannel_logout")


class BackchannelLogoutMiddleware:
    """Asks whether the session of each request was ended; see `gate.Gate` for the rest.

    A dead session is flushed and answered 401, or sent to the login where a page was asked for;
    where nobody can tell, 503. It asks no database for the user; but it reads the session, so
    every response varies on the cookie. A response that is already on its way, as an event
    stream, is not ended.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        options = read_options(getattr(settings, "BACKCHANNEL_LOGOUT", None))
        self._login_url: object = options.pop("login_url", settings.LOGIN_URL)
        signed_in = _signed_in(options)
        self._gate = _gate(self._login_url, options.pop("on_unidentified", "end"), signed_in)
        self._options = options
        self._guards: dict[asyncio.AbstractEventLoop, AsyncSessionGuard] = {}
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if self._is_async:
            return self._acall(request)
        store = _session_of(request)
        finding = self._gate.examine(store)
        if finding is not True:
            try:
                dead = finding is False or self._guard.is_revoked(finding)
            except RevocationUnknown as error:
                return _response(self._gate.unknown(_seen(request), error))
            if dead:
                store.flush()
                return self._ended(request)
        response = self.get_response(request)
        _tell_if_lost(store)
        return response

    async def _acall(self, request: HttpRequest) -> HttpResponse:
        store = _session_of(request)
        # Loads the session, so that the gate's own questions need no database any more.
        await store.aget(SESSION_KEY)
        finding = self._gate.examine(store)
        if finding is not True:
            try:
                dead = finding is False or await self._guard_of_this_loop().is_revoked(finding)
            except RevocationUnknown as error:
                return _response(self._gate.unknown(_seen(request), error))
            if dead:
                await store.aflush()
                return self._ended(request)
        response = await self.get_response(request)
        _tell_if_lost(store)
        return response

    # Guards are made at the first request: in the worker, after a server has forked it.

    @cached_property
    def _guard(self) -> SessionGuard:
        return SessionGuard(**self._options)

    def _guard_of_this_loop(self) -> AsyncSessionGuard:
        """Connections belong to the event loop that opened them; servers have one."""
        loop = asyncio.get_running_loop()
        if loop not in self._guards:
            for closed in [one for one in list(self._guards) if one.is_closed()]:
                self._guards.pop(closed, None)
            self._guards[loop] = AsyncSessionGuard(**self._options)
        return self._guards[loop]

    def _ended(self, request: HttpRequest) -> HttpResponse:
        # Resolved anew: a URL can depend on the request's language and script name.
        gate = _gate(self._login_url, "end", SESSION_KEY)
        return _response(gate.ended(_seen(request)))


def _session_of(request: HttpRequest) -> Any:
    try:
        return request.session
    except AttributeError:
        raise NoSession(
            "the request has no session: swap the entries of MIDDLEWARE. "
            '"backchannel_logout.django.BackchannelLogoutMiddleware" must come after '
            '"django.contrib.sessions.middleware.SessionMiddleware"'
        ) from None


def _login_of(store: Any) -> _Login:
    # On the session object and not on the request, of which others make wrappers. It is no
    # part of what is saved, and `flush()` leaves it.
    login = getattr(store, _PENDING, None)
    if login is None:
        login = _Login()
        setattr(store, _PENDING, login)
    return login


def _tell_if_lost(store: Any) -> None:
    if _login_of(store).members is not None:
        log.warning(
            "remember() was called in a request without django.contrib.auth.login(); "
            "nothing was stored"
        )


def _seen(request: HttpRequest) -> RequestInfo:
    return RequestInfo(
        accept=request.headers.get("Accept", ""),
        cookies=request.headers.get("Cookie", ""),
        secure=request.is_secure(),
    )


def _response(answer: GateResponse) -> HttpResponse:
    headers = dict(answer.headers)
    cookies: SimpleCookie = SimpleCookie(headers.pop("Set-Cookie", ""))
    response = HttpResponse(answer.body, status=answer.status, headers=headers)
    response.cookies.update(cookies)
    return response


# -- the settings --------------------------------------------------------------------------


def _signed_in(options: dict[str, Any]) -> SignedIn:
    """What says that a session was signed in with OpenID Connect; by default, any sign-in does."""
    backends = frozenset(options.pop("backends", ()))
    if not backends:
        return options.pop("signed_in", SESSION_KEY)  # type: ignore[no-any-return]
    if unknown := backends - set(settings.AUTHENTICATION_BACKENDS):
        raise ImproperlyConfigured(
            f"BACKCHANNEL_LOGOUT: AUTHENTICATION_BACKENDS does not have {sorted(unknown)}"
        )
    return lambda store: store.get(BACKEND_SESSION_KEY) in backends


def _gate(login_url: object, on_unidentified: Any, signed_in: SignedIn) -> Gate:
    try:
        url = None if login_url is None else str(login_url)
        if url is not None and "/" not in url:  # a name; to look it up loads the URLconf
            url = str(resolve_url(url))
        return Gate(signed_in=signed_in, login_url=url, on_unidentified=on_unidentified)
    except (NoReverseMatch, ValueError) as error:
        raise ImproperlyConfigured(
            f"BACKCHANNEL_LOGOUT: the login ('login_url', else LOGIN_URL) is not a URL: {error}"
        ) from error
