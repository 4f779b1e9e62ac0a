"""An access token for a provider's API: the client credentials grant (RFC 6749, section 4.4).

Cached, renewed before it expires and once when the API refuses it; one fetch in flight, whoever
asks. The token is never logged and never part of an error.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import httpx
from pydantic import Field, SecretStr

from app.sessions.api_client.calls import fault_of, send
from app.sessions.api_client.rate_limit_gate import RateLimitGate
from app.sessions.api_client.shapes import Shape, parse
from app.sessions.session_provider import FaultKind, ProviderFault

# Renewed this long before its end, or a fifth of its life where that is shorter: a call that
# begins with it must also end with it.
RENEW_BEFORE = 60.0

# Where the answer says no lifetime (section 5.1 only recommends it).
DEFAULT_LIFETIME = 300.0

# A failed fetch answers for so long: who asks for twenty sessions at once asks once.
FAILURE_MAX_AGE = 1.0


class _Granted(Shape):
    """The members of the answer that matter (RFC 6749, section 5.1)."""

    access_token: SecretStr = Field(min_length=1, max_length=16384)
    token_type: str
    expires_in: float = Field(default=DEFAULT_LIFETIME, gt=0, le=366 * 86400)


class ClientCredentials:
    """The credentials of one machine client. ``monotonic`` measures the token's life."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        token_url: str,
        client_id: str,
        client_secret: SecretStr,
        *,
        audience: str | None,
        allow_http: bool,
        gate: RateLimitGate,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._token_url = token_url
        self._client_id = client_id
        self._client_secret = client_secret
        self._audience = audience
        self._allow_http = allow_http
        self._gate = gate
        self._monotonic = monotonic
        self._headers: Mapping[str, str] | None = None
        self._renew_at = float("-inf")
        self._in_flight: asyncio.Task[None] | None = None
        self._failed: ProviderFault | None = None
        self._failed_at = float("-inf")

    async def headers(self) -> Mapping[str, str]:
        """The token, as a header. Raises `ProviderFault`."""
        if self._headers is None or self._monotonic() >= self._renew_at:
            if self._failed and self._monotonic() - self._failed_at < FAILURE_MAX_AGE:
                raise self._failed
            if self._in_flight is None:
                self._in_flight = asyncio.create_task(self._fetch())
                self._in_flight.add_done_callback(self._landed)
            # wait() and not await: who gives up must not cancel the others' fetch.
            await asyncio.wait({self._in_flight})
            if self._headers is None:
                raise self._failed or ProviderFault(FaultKind.UNAVAILABLE, "token_internal")
        return self._headers

    def refused(self, headers: Mapping[str, str]) -> bool:
        """Forget the token that was refused; there is a newer one, or will be."""
        if self._headers is headers:
            self._headers = None
        return True

    def _landed(self, fetch: asyncio.Task[None]) -> None:
        self._in_flight = None
        if not fetch.cancelled():
            fetch.exception()  # looked at here: perhaps nobody waits any more

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
            "client_id": self._client_id,
            "client_secret": self._client_secret.get_secret_value(),
        } | ({"audience": self._audience} if self._audience else {})
        await self._gate.wait()
        answer = await send(
            self._client, "POST", self._token_url, allow_http=self._allow_http, data=form
        )
        if answer.status == 429:
            self._gate.close(answer.headers)
            raise self._gate.fault()
        if answer.status in (400, 401, 403):
            # invalid_client, unauthorized_client, access_denied: section 5.2.
            raise ProviderFault(FaultKind.UNAUTHORIZED, f"token_http_{answer.status}")
        if answer.status != 200:
            raise ProviderFault(fault_of(answer.status).kind, f"token_http_{answer.status}")
        granted = parse(_Granted, answer.body, "token_shape")
        token = granted.access_token.get_secret_value()
        if granted.token_type.lower() != "bearer" or not (token.isascii() and token.isprintable()):
            raise ProviderFault(FaultKind.UNEXPECTED, "token_shape")
        return granted
