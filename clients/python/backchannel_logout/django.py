"""Middleware for Django, under WSGI and ASGI, which ends sessions after a logout.

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

``backends`` are the dotted names of the authentication backends that sign in with OpenID Connect:
sessions of other backends, such as a password for ``/admin``, are left alone. ``signed_in`` is an
alternative: the name of a session member that only those sessions have, or a function of the
session.

Requires Django 5.1: earlier releases cannot read a session under ASGI without blocking.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from http.cookies import SimpleCookie
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

# Django has no types.
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

from backchannel_logout.contract import session
from backchannel_logout.django_options import read_options
from backchannel_logout.gate import (
    Gate,
    GateResponse,
    NoSession,
    RequestInfo,
    SignedIn,
    check_login_url,
    log,
)
from backchannel_logout.guard import AsyncSessionGuard, SessionGuard

__all__ = ["BackchannelLogoutMiddleware", "remember"]

_PENDING = "_backchannel_logout_login"


@dataclass(slots=True)
class _Login:
    """The login of this request; see `remember`."""

    happened: bool = False
    members: dict[str, Any] | None = None
    """To store at the next login."""


def remember(request: HttpRequest, id_token_claims: Mapping[str, Any]) -> None:
    """Store the login, right before or after ``django.contrib.auth.login()``.

    ``id_token_claims`` are those of the **verified** ID token of this login. They are stored when
    `login()` has signed the user in, since it flushes the session of another user. So a call
    without a login, as at a refresh of the tokens, changes nothing, and is logged. Raises
    `SessionNotIdentified` when the claims are not those of an ID token.
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
    """Store the members of `remember`; a login without it, as with a password, removes them.

    `login()` of the same user keeps the session's data: with the old members, the session would end
    with an earlier login and not with this one.
    """
    store = getattr(request, "session", None)
    if store is None:
        return  # a login without a session, such as with a token
    login = _login_of(store)
    members, login.happened, login.members = login.members, True, None
    _replace(store, members or {})


def _replace(store: Any, members: Mapping[str, Any]) -> None:
    session.forget(store)
    store.update(members)


user_logged_in.connect(_on_login, dispatch_uid="backchannel_logout")


class BackchannelLogoutMiddleware:
    """Checks the session of each request; see `gate.Gate` for the rules.

    A dead session is flushed and answered 401, or a page is redirected to the login; while the
    guard cannot tell, the answer is 503. It does not load the user from the database, but it reads
    the session, so every response varies on the cookie. A response in progress, such as an event
    stream, is not ended.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        options = read_options(getattr(settings, "BACKCHANNEL_LOGOUT", None))
        login_url: object = options.pop("login_url", settings.LOGIN_URL)
        if login_url is not None:
            _resolve(login_url)  # a wrong setting is an error at start-up
        self._gate = Gate(
            signed_in=_signed_in(options),
            # Resolved for each answer: a URL can depend on the request's language and script name.
            login_url=None if login_url is None else partial(_resolve, login_url),
            on_unidentified=options.pop("on_unidentified", "end"),
        )
        self._options = options
        self._guards: dict[asyncio.AbstractEventLoop, AsyncSessionGuard] = {}
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if self._is_async:
            return self._acall(request)
        store = _session_of(request)
        answer = self._gate.check(self._guard, store, partial(_request_info, request))
        if isinstance(answer, GateResponse):
            if answer.ended:
                store.flush()
            return _response(answer)
        response = self.get_response(request)
        _warn_if_lost(store)
        return response

    async def _acall(self, request: HttpRequest) -> HttpResponse:
        store = _session_of(request)
        # Loads the session: the gate reads it without blocking on the database.
        await store.aget(SESSION_KEY)
        guard = self._guard_of_this_loop()
        answer = await self._gate.check_async(guard, store, partial(_request_info, request))
        if isinstance(answer, GateResponse):
            if answer.ended:
                await store.aflush()
            return _response(answer)
        response = await self.get_response(request)
        _warn_if_lost(store)
        return response

    # Guards are made at the first request: in the worker process, after the fork.

    @cached_property
    def _guard(self) -> SessionGuard:
        return SessionGuard(**self._options)

    def _guard_of_this_loop(self) -> AsyncSessionGuard:
        """Connections belong to the event loop that opened them; servers have one."""
        loop = asyncio.get_running_loop()
        if loop not in self._guards:
            for closed in [known for known in list(self._guards) if known.is_closed()]:
                self._guards.pop(closed, None)
            self._guards[loop] = AsyncSessionGuard(**self._options)
        return self._guards[loop]


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
    # An attribute of the session, not of the request, which others wrap. It is not saved, and
    # `flush()` keeps it.
    login = getattr(store, _PENDING, None)
    if login is None:
        login = _Login()
        setattr(store, _PENDING, login)
    return login


def _warn_if_lost(store: Any) -> None:
    if _login_of(store).members is not None:
        log.warning(
            "remember() was called in a request without django.contrib.auth.login(); "
            "nothing was stored"
        )


def _request_info(request: HttpRequest) -> RequestInfo:
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
    """What identifies a sign-in with OpenID Connect; by default, every sign-in is one."""
    backends = frozenset(options.pop("backends", ()))
    if not backends:
        return options.pop("signed_in", SESSION_KEY)  # type: ignore[no-any-return]
    if unknown := backends - set(settings.AUTHENTICATION_BACKENDS):
        raise ImproperlyConfigured(
            f"BACKCHANNEL_LOGOUT: AUTHENTICATION_BACKENDS does not have {sorted(unknown)}"
        )
    return lambda store: store.get(BACKEND_SESSION_KEY) in backends


def _resolve(login_url: object) -> str:
    try:
        url = str(login_url)
        if "/" not in url:  # a name, whose lookup loads the URLconf
            url = str(resolve_url(url))
        check_login_url(url)
    except (NoReverseMatch, ValueError) as error:
        raise ImproperlyConfigured(
            f"BACKCHANNEL_LOGOUT: the login ('login_url', else LOGIN_URL) is not a URL: {error}"
        ) from error
    return url
