"""Identifies a user by the credential of their own Kratos session.

Kratos' ``/sessions/whoami`` decides whose session a cookie or a session token belongs to. The
credential is sent nowhere else, is never logged, and is not kept after the request. Lists and ends
go through the admin API like everyone else's: an end must outlive the request that began it.

Written from the source of Kratos 1.3 (``session/handler.go``) and tested against it.
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import httpx

from app.sessions.api_client.calls import CALL_SECONDS, MAX_CONCURRENT, fault_of, send
from app.sessions.api_client.rate_limit_gate import pause_seconds
from app.sessions.api_client.shapes import parse
from app.sessions.provider_session import ProviderSession
from app.sessions.providers.kratos import KratosSession
from app.sessions.session_provider import FaultKind, ProviderFault

# Kratos' default name, and the names that Ory Network gives.
_COOKIE = re.compile(r"(?:ory_kratos_session|ory_session_[a-z0-9]+)=.+")

_MAX_LENGTH = 8192

# Requests that wait for one of the `MAX_CONCURRENT` calls. More would only wait in vain: anyone can
# send a credential.
MAX_WAITING = 32


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
    """Calls Kratos' public API at ``base_url``, without credentials of the receiver's own.

    Without a gate that is closed by a 429: one user's limit must not lock out the others.
    """

    def __init__(
        self, issuer: str, client: httpx.AsyncClient, base_url: str, *, allow_http: bool
    ) -> None:
        self._issuer = issuer
        self._client = client
        self._url = base_url.rstrip("/") + "/sessions/whoami"
        self._allow_http = allow_http
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._unanswered = 0
        """Requests that call Kratos or wait to."""

    async def session(self, credential: KratosCredential) -> ProviderSession:
        """The active session that the credential belongs to.

        Raises `ProviderFault`: ``unauthorized`` when there is none, ``forbidden`` when Kratos
        requires a second factor first.
        """
        if self._unanswered >= MAX_CONCURRENT + MAX_WAITING:
            raise ProviderFault(FaultKind.UNAVAILABLE, "busy")
        self._unanswered += 1
        try:
            body = await self._call(credential)
        finally:
            self._unanswered -= 1
        session = parse(KratosSession, body).session(self._issuer, None)
        if not session.active:
            raise ProviderFault(FaultKind.UNAUTHORIZED, "inactive")
        return session

    async def _call(self, credential: KratosCredential) -> bytes:
        """The body of a 200. One deadline covers the wait for a slot and the call."""
        try:
            async with asyncio.timeout(CALL_SECONDS), self._slots:
                response = await send(
                    self._client,
                    "GET",
                    self._url,
                    allow_http=self._allow_http,
                    headers=credential.headers(),
                )
        except TimeoutError:
            raise ProviderFault(FaultKind.UNAVAILABLE, "timeout") from None
        if response.status == 429:
            pause = pause_seconds(response.headers, time.time())
            raise ProviderFault(FaultKind.LIMITED, "http_429", retry_after=pause)
        if response.status != 200:
            raise fault_of(response.status)
        return response.body
