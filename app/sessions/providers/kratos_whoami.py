"""Identifies a user by the credential of their own Kratos session.

Kratos' ``/sessions/whoami`` decides whose session a cookie or a session token belongs to. The
credential is sent nowhere else, is never logged, and is not kept after the request. Lists and ends
go through the admin API like everyone else's: an end must outlive the request that began it.

Written from the source of Kratos 1.3 (``session/handler.go``) and tested against it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from app.sessions.api_client.calls import Calls
from app.sessions.api_client.shapes import parse
from app.sessions.provider_session import ProviderSession
from app.sessions.providers.kratos import KratosSession
from app.sessions.session_provider import FaultKind, ProviderFault

# Kratos' default name, and the names that Ory Network gives.
_COOKIE = re.compile(r"(?:ory_kratos_session|ory_session_[a-z0-9]+)=.+")

_MAX_LENGTH = 8192


@dataclass(frozen=True, slots=True)
class KratosCredential:
    """The user's ``X-Session-Token``, or the session cookie that Kratos set."""

    session_token: str = field(default="", repr=False)
    cookie: str = field(default="", repr=False)

    @classmethod
    def from_headers(cls, session_tokens: Sequence[str], cookies: Sequence[str]) -> Self | None:
        """Read a request's ``X-Session-Token`` and ``Cookie`` headers; None without a credential.

        Of the cookies, only those of a Kratos session are used.
        """
        if session_tokens:
            values, credential = session_tokens, cls(session_token=session_tokens[0])
        else:
            pairs = [pair.strip() for header in cookies for pair in header.split(";")]
            values = [pair for pair in pairs if _COOKIE.fullmatch(pair)]
            credential = cls(cookie="; ".join(values))
        value = credential.session_token or credential.cookie
        is_header_value = value.isascii() and value.isprintable() and len(value) <= _MAX_LENGTH
        return credential if value and is_header_value else None

    @property
    def is_cookie(self) -> bool:
        """Whether the browser attaches it by itself."""
        return not self.session_token

    def headers(self) -> Mapping[str, str]:
        """The header to send to Kratos."""
        if self.session_token:
            return {"X-Session-Token": self.session_token}
        return {"Cookie": self.cookie}


class KratosWhoami:
    """``calls`` go to Kratos' public API, without credentials of the receiver's own."""

    def __init__(self, issuer: str, calls: Calls) -> None:
        self._issuer = issuer
        self._calls = calls

    async def session(self, credential: KratosCredential) -> ProviderSession:
        """The active session that the credential belongs to.

        Raises `ProviderFault`: ``unauthorized`` when there is none, ``forbidden`` when Kratos
        requires a second factor first.
        """
        response = await self._calls.call(
            "GET", "/sessions/whoami", expect={200}, headers=credential.headers()
        )
        session = parse(KratosSession, response.body).session(self._issuer, None)
        if not session.active:
            raise ProviderFault(FaultKind.UNAUTHORIZED, "inactive")
        return session
