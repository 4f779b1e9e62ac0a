"""Ory Kratos' self-service: what users may do with their own sessions, as themselves.

Each call carries what the user's browser or app sent: Kratos decides whose sessions these are.

Written from the source of Kratos 1.3 (``session/handler.go``), and run against it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import Field

from app.sessions.api_client.calls import Calls
from app.sessions.api_client.shapes import Shape, parse
from app.sessions.bulk import check_owner
from app.sessions.provider_session import ProviderSession, SessionPage
from app.sessions.providers.kratos import KratosSession, next_page, not_found, page_parameters, uuid


class NoCredential(ValueError):
    """The user's request carries nothing that could be a session of Kratos."""


@dataclass(frozen=True, slots=True)
class UserCredential:
    """What the user's request carried: ``X-Session-Token``, else the ``Cookie`` header."""

    session_token: str | None = field(default=None, repr=False)
    cookie: str | None = field(default=None, repr=False)

    def headers(self) -> Mapping[str, str]:
        """What is passed on to Kratos. Raises `NoCredential`."""
        name, value = (
            ("X-Session-Token", self.session_token)
            if self.session_token
            else ("Cookie", self.cookie)
        )
        if not value or not (value.isascii() and value.isprintable()) or len(value) > 16384:
            raise NoCredential("no session token and no cookie that can be passed on")
        return {name: value}


class OwnSessions:
    """A user's own sessions. ``calls`` goes to Kratos' public API, without credentials of ours.

    Raises `ProviderFault`; ``unauthorized`` is a user who is not signed in (any more),
    ``forbidden`` one whose second factor Kratos wants to see first.
    """

    def __init__(self, issuer: str, calls: Calls) -> None:
        self.issuer = issuer
        self._calls = calls

    async def current(self, user: UserCredential) -> ProviderSession:
        """The session that the credential itself belongs to."""
        answer = await self._calls.call(
            "GET", "/sessions/whoami", expect={200}, headers=user.headers()
        )
        return parse(KratosSession, answer.body).session(self.issuer, None)

    async def others(self, user: UserCredential, page: str | None = None) -> SessionPage:
        """A page of the user's other active sessions."""
        owner = (await self.current(user)).user_id
        answer = await self._calls.call(
            "GET",
            "/sessions",
            expect={200},
            params=page_parameters(page),
            headers=user.headers(),
        )
        found = parse(tuple[KratosSession, ...], answer.body)
        sessions = (one.session(self.issuer, owner) for one in found)
        following = next_page(answer.headers, page) if found else None
        return SessionPage(sessions=check_owner(sessions, user_id=owner), next=following)

    async def end(self, user: UserCredential, session_id: str) -> None:
        """Deactivate one of the others. Kratos says nothing about whether there was one.

        Raises `ProviderFault` with ``http_400`` for the current session: that is a logout.
        """
        answer = await self._calls.call(
            "DELETE",
            f"/sessions/{uuid(session_id)}",
            expect={204, 404},
            headers=user.headers(),
        )
        not_found(answer)

    async def end_others(self, user: UserCredential) -> int:
        """Deactivate all others; returns how many, as Kratos counts: also those that had ended."""
        answer = await self._calls.call("DELETE", "/sessions", expect={200}, headers=user.headers())
        return parse(_Count, answer.body).count


class _Count(Shape):
    count: int = Field(ge=0)
