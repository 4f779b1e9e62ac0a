"""Ory Kratos: its admin API, which only our own network should reach.

Kratos is no OpenID provider: it has no ID tokens and sends no logout tokens. An app that uses it
remembers, of ``/sessions/whoami``: ``iss`` the issuer configured here (Kratos' public URL), ``sid``
the session's ``id``, ``sub`` the ``id`` of its identity, ``login_at`` its ``authenticated_at``.

One session is deactivated: Kratos keeps it, with ``active: false``. All of a user's sessions are
deleted, in one step.

Written from the source of Kratos 1.3 (``session/handler.go``), and run against it.
"""

import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import Field

from app.sessions.api_client.calls import ApiResponse, Calls
from app.sessions.api_client.path_segment import InvalidId
from app.sessions.api_client.shapes import Id, Moment, Shape, matches, parse
from app.sessions.bulk import check_id, check_owner, end_each, list_all, list_others
from app.sessions.provider_session import (
    UNKNOWN_DEVICE,
    Device,
    Lifetimes,
    ProviderSession,
    SessionPage,
)
from app.sessions.session_provider import FaultKind, ProviderFault

PAGE_SIZE = 250

# ``session.lifespan``, unless it is configured otherwise; no API tells it.
DEFAULT_LIFESPAN = 86400.0

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_WITH_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<v4>[0-9.]+))(?::[0-9]{1,5})?")

_LINK = re.compile(r'<([^<>]*)>\s*;\s*rel="?(\w+)')


class Kratos:
    """The sessions of one Kratos. ``calls`` ends before ``/admin``."""

    kind = "kratos"
    sends_logout_tokens = False

    def __init__(self, issuer: str, calls: Calls, *, lifespan: float = DEFAULT_LIFESPAN) -> None:
        self.issuer = issuer
        self._calls = calls
        self._lifespan = lifespan

    async def list(self, user_id: str, page: str | None = None) -> SessionPage:
        """Those that are active: Kratos keeps the others for as long as nobody cleans up."""
        path = f"/admin/identities/{uuid(user_id)}/sessions"
        params = {"active": "true", **page_parameters(page)}
        answer = await self._calls.call("GET", path, expect={200, 404}, params=params)
        if not_found(answer):
            return SessionPage(sessions=())
        found = parse(tuple[KratosSession, ...], answer.body)
        sessions = (one.session(self.issuer, user_id) for one in found)
        following = next_page(answer.headers, page) if found else None
        return SessionPage(sessions=check_owner(sessions, user_id=user_id), next=following)

    async def read(self, session_id: str, *, user_id: str | None = None) -> ProviderSession | None:
        answer = await self._calls.call(
            "GET",
            f"/admin/sessions/{uuid(session_id)}?expand=identity&expand=devices",
            expect={200, 404},
        )
        if not_found(answer):
            return None
        session = parse(KratosSession, answer.body).session(self.issuer, user_id)
        return check_id(session, session_id=session_id)

    async def end(self, session_id: str, *, refresh_tokens: bool = False) -> bool:
        del refresh_tokens  # Kratos has none
        path = f"/admin/sessions/{uuid(session_id)}"
        return not not_found(await self._calls.call("DELETE", path, expect={204, 404}))

    async def end_all(
        self, user_id: str, *, refresh_tokens: bool = False
    ) -> tuple[ProviderSession, ...]:
        del refresh_tokens
        sessions = await list_all(self, user_id)
        path = f"/admin/identities/{uuid(user_id)}/sessions"
        # 404 where there is none.
        not_found(await self._calls.call("DELETE", path, expect={204, 404}))
        return sessions

    async def end_others(
        self, user_id: str, *, keep: str, refresh_tokens: bool = False
    ) -> tuple[ProviderSession, ...]:
        others = await list_others(self, user_id, keep)
        await end_each(self, others, refresh_tokens=refresh_tokens)
        return others

    async def lifetimes(self) -> Lifetimes:
        """As configured here: no API of Kratos tells its own setting."""
        return Lifetimes(idle=None, absolute=self._lifespan, source="lifespan in the settings")


def uuid(value: str) -> str:
    """The id, if Kratos can have given it. Raises `InvalidId`."""
    if not _UUID.fullmatch(value):
        raise InvalidId("an id of Kratos is a UUID, in small letters")
    return value


def page_parameters(page: str | None) -> dict[str, str]:
    """What to ask for a page with; ``page`` comes from `next_page`, or from anybody."""
    told = dict(parse_qsl(page or ""))
    wanted = {name: value for name, value in told.items() if name in ("page", "page_token")}
    return {"per_page": str(PAGE_SIZE), **wanted}


def next_page(headers: Mapping[str, str], page: str | None) -> str | None:
    """What to ask for the page after ``page`` with. Nothing of a link is believed but its token.

    Where a page has a number, as in Kratos 1.3, it is we who count: there, the pages 0 and 1 are
    the same, and who follows the links ends one page too early. Where it has only a token, the
    link with ``rel="next"`` has it.
    """
    links = {
        relation: dict(parse_qsl(urlsplit(target).query))
        for target, relation in _LINK.findall(headers.get("link", ""))
    }
    total = headers.get("x-total-count", "")
    if re.fullmatch(r"[0-9]{1,9}", total) and any("page" in one for one in links.values()):
        asked = page_parameters(page).get("page", "1")
        number = int(asked) if re.fullmatch(r"[1-9][0-9]{0,5}", asked) else 1
        return f"page={number + 1}" if number * PAGE_SIZE < int(total) else None
    token = links.get("next", {}).get("page_token")
    return urlencode({"page_token": token}) if token else None


class _KratosError(Shape):
    code: Annotated[int, Field(ge=404, le=404)]


class _KratosNotFound(Shape):
    """Kratos' own 404: that of a proxy, or of another server, says nothing about a session."""

    error: _KratosError


def not_found(answer: ApiResponse) -> bool:
    """Whether Kratos says that it is not there. Raises `ProviderFault` for another's 404."""
    if answer.status == 404 and not matches(_KratosNotFound, answer.body):
        raise ProviderFault(FaultKind.UNEXPECTED, "http_404")
    return answer.status == 404


class _Identity(Shape):
    id: Id


class _KratosDevice(Shape):
    ip_address: str | None = None
    user_agent: str | None = None

    def device(self) -> Device:
        return Device(user_agent=self.user_agent or None, ip=_without_port(self.ip_address) or None)


def _without_port(address: str | None) -> str | None:
    """Kratos 1.3 tells the port as well: ``192.0.2.1:33308``, ``[2001:db8::1]:33308``."""
    found = _WITH_PORT.fullmatch(address or "")
    return found["v6"] or found["v4"] if found else address


class _KratosMethod(Shape):
    method: str


class KratosSession(Shape):
    """A session as every endpoint of Kratos writes it."""

    id: Id
    active: bool = True
    expires_at: Moment = None
    authenticated_at: Moment = None
    issued_at: Moment = None
    authentication_methods: tuple[_KratosMethod, ...] | None = None
    identity: _Identity | None = None
    """Null until the second factor, where one is required."""
    devices: tuple[_KratosDevice, ...] | None = None

    def session(self, issuer: str, user_id: str | None) -> ProviderSession:
        """``user_id`` is whose it is where it does not say so itself. Raises `ProviderFault`."""
        owner = self.identity.id if self.identity else user_id
        if owner is None:
            raise ProviderFault(FaultKind.UNEXPECTED, "no_user")
        devices = [one.device() for one in self.devices or ()] or [UNKNOWN_DEVICE]
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
            methods=tuple(one.method for one in self.authentication_methods or ()),
        )
