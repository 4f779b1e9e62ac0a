"""The adapter for Ory Kratos' admin API, which only our own network should reach.

Kratos is not an OpenID provider: it has no ID tokens and sends no logout tokens. An app that uses
it remembers from ``/sessions/whoami``: as ``iss`` the issuer configured here (Kratos' public URL),
as ``sid`` the session's ``id``, as ``sub`` the ``id`` of its identity, as ``login_at`` its
``authenticated_at``.

A single session is deactivated: Kratos keeps it, with ``active: false``. All sessions of a user are
deleted in one step.

Written from the source of Kratos 1.3 (``session/handler.go``) and tested against it.
"""

import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import Field

from app.sessions.api_client.calls import ApiResponse, Calls
from app.sessions.api_client.path_segment import InvalidId
from app.sessions.api_client.shapes import Id, Moment, Shape, is_not_found, parse
from app.sessions.bulk import check_id, check_owner, list_all
from app.sessions.provider_session import (
    UNKNOWN_DEVICE,
    Device,
    Lifetimes,
    ProviderSession,
    SessionPage,
)
from app.sessions.session_provider import FaultKind, ProviderFault

PAGE_SIZE = 250

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_WITH_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<v4>[0-9.]+))(?::[0-9]{1,5})?")

_LINK = re.compile(r'<([^<>]*)>\s*;\s*rel="?(\w+)')


class Kratos:
    """The sessions of one Kratos. ``calls`` ends before ``/admin``."""

    kind = "kratos"
    sends_logout_tokens = False

    def __init__(self, issuer: str, calls: Calls, *, lifespan: float) -> None:
        self.issuer = issuer
        self._calls = calls
        self._lifespan = lifespan

    async def list(self, user_id: str, page: str | None = None) -> SessionPage:
        """The active ones. Kratos keeps the others until they are cleaned up."""
        path = f"/admin/identities/{_uuid(user_id)}/sessions"
        params = {"active": "true", **_page_parameters(page)}
        response = await self._calls.call("GET", path, expect={200, 404}, params=params)
        if _not_found(response):
            return SessionPage(sessions=())
        shapes = parse(tuple[KratosSession, ...], response.body)
        sessions = (shape.session(self.issuer, user_id) for shape in shapes)
        following = _next_page(response.headers, page) if shapes else None
        return SessionPage(sessions=check_owner(sessions, user_id=user_id), next=following)

    async def read(self, session_id: str, *, user_id: str | None = None) -> ProviderSession | None:
        response = await self._calls.call(
            "GET",
            f"/admin/sessions/{_uuid(session_id)}?expand=identity&expand=devices",
            expect={200, 404},
        )
        if _not_found(response):
            return None
        session = parse(KratosSession, response.body).session(self.issuer, user_id)
        return check_id(session, session_id=session_id)

    async def end(self, session_id: str, *, refresh_tokens: bool = False) -> bool:
        del refresh_tokens  # Kratos has none
        path = f"/admin/sessions/{_uuid(session_id)}"
        return not _not_found(await self._calls.call("DELETE", path, expect={204, 404}))

    async def end_all(
        self, user_id: str, *, refresh_tokens: bool = False
    ) -> tuple[ProviderSession, ...]:
        del refresh_tokens
        sessions = await list_all(self, user_id)
        path = f"/admin/identities/{_uuid(user_id)}/sessions"
        _not_found(await self._calls.call("DELETE", path, expect={204, 404}))
        return sessions

    async def lifetimes(self) -> Lifetimes:
        """As configured here: no API of Kratos reports its setting."""
        return Lifetimes(idle=None, absolute=self._lifespan, source="lifespan in the settings")


def _uuid(value: str) -> str:
    """The id, if Kratos can have issued it. Raises `InvalidId`."""
    if not _UUID.fullmatch(value):
        raise InvalidId("an id of Kratos is a UUID, in small letters")
    return value


def _page_parameters(page: str | None) -> dict[str, str]:
    """The query for a page. ``page`` comes from `_next_page`, or from any client."""
    given = dict(parse_qsl(page or ""))
    known = {name: value for name, value in given.items() if name in ("page", "page_token")}
    return {"per_page": str(PAGE_SIZE), **known}


def _next_page(headers: Mapping[str, str], page: str | None) -> str | None:
    """The token of the page after ``page``. Of a link, only its page token is used.

    If pages are numbered, as in Kratos 1.3, the adapter counts itself: there, pages 0 and 1 are the
    same, and the links end one page too early. Otherwise the link with ``rel="next"`` has a token.
    """
    links = {
        relation: dict(parse_qsl(urlsplit(target).query))
        for target, relation in _LINK.findall(headers.get("link", ""))
    }
    total = headers.get("x-total-count", "")
    if re.fullmatch(r"[0-9]{1,9}", total) and any("page" in query for query in links.values()):
        current = _page_parameters(page).get("page", "1")
        number = int(current) if re.fullmatch(r"[1-9][0-9]{0,5}", current) else 1
        return f"page={number + 1}" if number * PAGE_SIZE < int(total) else None
    token = links.get("next", {}).get("page_token")
    return urlencode({"page_token": token}) if token else None


class _KratosError(Shape):
    code: Annotated[int, Field(ge=404, le=404)]


class _KratosNotFound(Shape):
    error: _KratosError


def _not_found(response: ApiResponse) -> bool:
    return is_not_found(response, _KratosNotFound)


class _Identity(Shape):
    id: Id


class _KratosDevice(Shape):
    ip_address: str | None = None
    user_agent: str | None = None

    def device(self) -> Device:
        return Device(user_agent=self.user_agent or None, ip=_without_port(self.ip_address) or None)


def _without_port(address: str | None) -> str | None:
    """Kratos 1.3 includes the port: ``192.0.2.1:33308``, ``[2001:db8::1]:33308``."""
    match = _WITH_PORT.fullmatch(address or "")
    return match["v6"] or match["v4"] if match else address


class _KratosMethod(Shape):
    method: str


class KratosSession(Shape):
    """A session, in the form of every endpoint of Kratos."""

    id: Id
    active: bool = True
    expires_at: Moment = None
    authenticated_at: Moment = None
    issued_at: Moment = None
    authentication_methods: tuple[_KratosMethod, ...] | None = None
    identity: _Identity | None = None
    """Null until the second factor, if one is required."""
    devices: tuple[_KratosDevice, ...] | None = None

    def session(self, issuer: str, user_id: str | None) -> ProviderSession:
        """``user_id`` is the owner if the session names none. Raises `ProviderFault`."""
        owner = self.identity.id if self.identity else user_id
        if owner is None:
            raise ProviderFault(FaultKind.UNEXPECTED, "no_user")
        devices = [device.device() for device in self.devices or ()] or [UNKNOWN_DEVICE]
        return ProviderSession(
            id=self.id,
            issuer=issuer,
            user_id=owner,
            created_at=self.issued_at,
            authenticated_at=self.authenticated_at,
            expires_at=self.expires_at,
            active=self.active,
            first_device=devices[0],
            last_device=devices[-1],
            methods=tuple(used.method for used in self.authentication_methods or ()),
        )
