"""Makes bounded HTTP calls to one provider's API: a response, or a `ProviderFault`.

No redirects, one deadline for the whole call, a size limit, https (or loopback, or ``allow_http``),
and one gate that pauses all calls after a 429.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from pydantic import SecretStr

from app.config.types import may_fetch
from app.sessions.api_client.rate_limit_gate import RateLimitGate
from app.sessions.session_provider import FaultKind, ProviderFault

# As for a provider's keys; an administrator waits for each call.
CALL_SECONDS = 5.0

# A hundred Auth0 sessions take about 100 KiB.
MAX_RESPONSE = 2 * 1024 * 1024

# Simultaneous calls to one provider, whose limits count every call.
MAX_CONCURRENT = 8


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """The provider's response. The body is not parsed."""

    status: int
    headers: httpx.Headers
    body: bytes


class Authorization(Protocol):
    """The credentials of calls."""

    async def headers(self) -> Mapping[str, str]:
        """The headers to send. Raises `ProviderFault` when there are none at present."""

    def refused(self, headers: Mapping[str, str]) -> bool:
        """Take note of a 401 for these headers; returns whether new ones may be available."""


class StaticAccess:
    """For an API that only our network can reach, or that a permanent token opens."""

    def __init__(self, token: SecretStr | None = None) -> None:
        self._token = token

    async def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self._token.get_secret_value()}"} if self._token else {}

    def refused(self, _: Mapping[str, str]) -> bool:
        return False


@dataclass(eq=False)
class Calls:
    """Calls to one API. ``base_url`` has no trailing slash; paths begin with one."""

    client: httpx.AsyncClient
    base_url: str
    access: Authorization
    allow_http: bool
    gate: RateLimitGate

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def call(
        self,
        method: str,
        path: str,
        *,
        expect: Collection[int],
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ApiResponse:
        """Make one call. Raises `ProviderFault` for a status that is not in ``expect``.

        Retried once after a 401 or a 429: every call to these APIs can be repeated.
        """
        for attempt in (1, 2):
            await self.gate.wait()
            async with self._slots:
                access = await self.access.headers()
                response = await send(
                    self.client,
                    method,
                    self.base_url + path,
                    allow_http=self.allow_http,
                    params=params,
                    headers={**access, **(headers or {})},
                )
            if response.status == 429:
                self.gate.close(response.headers)
            if response.status in expect:
                return response
            if attempt == 2 or not self._may_repeat(response, access):
                break
        raise self.gate.fault() if response.status == 429 else fault_of(response.status)

    def _may_repeat(self, response: ApiResponse, access: Mapping[str, str]) -> bool:
        if response.status == 401:
            return self.access.refused(access)
        return response.status == 429


def fault_of(status: int) -> ProviderFault:
    """The fault for an unexpected status."""
    kind = {401: FaultKind.UNAUTHORIZED, 403: FaultKind.FORBIDDEN}.get(status)
    if kind is None:
        kind = FaultKind.UNAVAILABLE if status >= 500 else FaultKind.UNEXPECTED
    return ProviderFault(kind, f"http_{status}")


async def send(
    client: httpx.AsyncClient, method: str, url: str, *, allow_http: bool, **request: Any
) -> ApiResponse:
    """Send one request and read the whole response, of any status. Raises `ProviderFault`."""
    if not may_fetch(url, allow_http=allow_http):
        raise ProviderFault(FaultKind.UNEXPECTED, "not_https")
    try:
        async with (
            asyncio.timeout(CALL_SECONDS),
            client.stream(method, url, **request) as stream,
        ):
            if stream.headers.get("content-encoding", "identity") != "identity":
                raise ProviderFault(FaultKind.UNEXPECTED, "content_encoding")
            body = bytearray()
            async for chunk in stream.aiter_raw():
                body += chunk
                if len(body) > MAX_RESPONSE:
                    raise ProviderFault(FaultKind.UNEXPECTED, "too_large")
            return ApiResponse(stream.status_code, stream.headers, bytes(body))
    except (TimeoutError, httpx.TimeoutException):
        raise ProviderFault(FaultKind.UNAVAILABLE, "timeout") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        raise ProviderFault(FaultKind.UNAVAILABLE, "connection") from None
