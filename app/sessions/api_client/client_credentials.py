"""Access tokens for a provider's API by the client credentials grant (RFC 6749, section 4.4).

Cached, renewed before they expire and once when the API rejects one. All callers share one fetch.
The token is never logged and never part of an error.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from pydantic import Field, SecretStr

from app.sessions.api_client.calls import fault_of, send
from app.sessions.api_client.rate_limit_gate import RateLimitGate
from app.sessions.api_client.shapes import Shape, parse
from app.sessions.session_provider import FaultKind, ProviderFault

# Renewed this long before it expires, or a fifth of its life if that is shorter: a call that begins
# with a token must also end with it.
RENEW_BEFORE = 60.0

# When the response has no lifetime (section 5.1 only recommends it).
DEFAULT_LIFETIME = 300.0

# A failed fetch is not repeated sooner: a request for twenty sessions makes one fetch.
FAILURE_MAX_AGE = 1.0


class _Granted(Shape):
    """The members of the response that are used (RFC 6749, section 5.1)."""

    access_token: SecretStr = Field(min_length=1, max_length=16384)
    token_type: str
    expires_in: float = Field(default=DEFAULT_LIFETIME, gt=0, le=366 * 86400)


@dataclass(eq=False, repr=False)
class ClientCredentials:
    """The credentials of one machine client."""

    client: httpx.AsyncClient
    token_url: str
    client_id: str
    client_secret: SecretStr
    audience: str | None
    allow_http: bool
    gate: RateLimitGate

    def __post_init__(self) -> None:
        self._monotonic = time.monotonic
        self._headers: Mapping[str, str] | None = None
        self._renew_at = float("-inf")
        self._fetch_task: asyncio.Task[None] | None = None
        self._failed: ProviderFault | None = None
        self._failed_at = float("-inf")

    async def headers(self) -> Mapping[str, str]:
        """The token as a header. Raises `ProviderFault`."""
        if self._headers is None or self._monotonic() >= self._renew_at:
            if self._failed and self._monotonic() - self._failed_at < FAILURE_MAX_AGE:
                raise self._failed
            if self._fetch_task is None:
                self._fetch_task = asyncio.create_task(self._fetch())
                self._fetch_task.add_done_callback(self._on_done)
            # wait() and not await: a cancelled caller must not cancel the others' fetch.
            await asyncio.wait({self._fetch_task})
            if self._headers is None:
                raise self._failed or ProviderFault(FaultKind.UNAVAILABLE, "token_internal")
        return self._headers

    def refused(self, headers: Mapping[str, str]) -> bool:
        """Forget the rejected token, unless a newer one has replaced it."""
        if self._headers is headers:
            self._headers = None
        return True

    def _on_done(self, fetch: asyncio.Task[None]) -> None:
        self._fetch_task = None
        if not fetch.cancelled():
            fetch.exception()  # retrieved here, as every caller may have gone

    async def _fetch(self) -> None:
        try:
            granted = await self._granted()
        except ProviderFault as fault:
            self._headers, self._failed, self._failed_at = None, fault, self._monotonic()
            return
        token = granted.access_token.get_secret_value()
        self._headers, self._failed = {"Authorization": f"Bearer {token}"}, None
        life = granted.expires_in
        self._renew_at = self._monotonic() + life - min(RENEW_BEFORE, life / 5)

    async def _granted(self) -> _Granted:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret.get_secret_value(),
        } | ({"audience": self.audience} if self.audience else {})
        await self.gate.wait()
        response = await send(
            self.client, "POST", self.token_url, allow_http=self.allow_http, data=form
        )
        if response.status == 429:
            self.gate.close(response.headers)
            raise self.gate.fault()
        if response.status in (400, 401, 403):
            # invalid_client, unauthorized_client, access_denied: section 5.2.
            raise ProviderFault(FaultKind.UNAUTHORIZED, f"token_http_{response.status}")
        if response.status != 200:
            raise ProviderFault(fault_of(response.status).kind, f"token_http_{response.status}")
        granted = parse(_Granted, response.body, "token_shape")
        token = granted.access_token.get_secret_value()
        if granted.token_type.lower() != "bearer" or not (token.isascii() and token.isprintable()):
            raise ProviderFault(FaultKind.UNEXPECTED, "token_shape")
        return granted
