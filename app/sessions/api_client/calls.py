"""Bounded HTTP calls to one provider's API: what comes back is an answer or a `ProviderFault`.

No redirects, one deadline for the whole call, a limit for what is read, https (or loopback, or
``allow_http``), and one gate for all calls once the provider says 429.
"""

import asyncio
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from pydantic import SecretStr

from app.config.types import may_fetch
from app.sessions.api_client.rate_limit_gate import RateLimitGate
from app.sessions.session_provider import FaultKind, ProviderFault

# As long as the keys of a provider may take; behind each call stands an administrator.
CALL_SECONDS = 5.0

# A hundred sessions of Auth0 have some 100 KiB.
MAX_RESPONSE = 2 * 1024 * 1024

# At once, to one provider: its limits count every call.
MAX_CONCURRENT = 8


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """What the provider sent. The body has not been looked at."""

    status: int
    headers: httpx.Headers
    body: bytes


class Authorization(Protocol):
    """The credentials of calls."""

    async def headers(self) -> Mapping[str, str]:
        """What to send. Raises `ProviderFault` when there is nothing to send now."""

    def refused(self, headers: Mapping[str, str]) -> bool:
        """The provider answered 401 to these; whether there may be others now."""


class StaticAccess:
    """For an API that only our network can reach, or that a token of ours opens for good."""

    def __init__(self, token: SecretStr | None = None) -> None:
        self._token = token

    async def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {self._token.get_secret_value()}"} if self._token else {}

    def refused(self, _: Mapping[str, str]) -> bool:
        return False


def new_client(tls: ssl.SSLContext | None = None) -> httpx.AsyncClient:
    """An HTTP client for the calls; whoever asks for it closes it.

    ``tls`` may be one that was loaded before: to load the authorities takes some 50 ms.
    ``identity``: a compressed answer could unpack to many times the limit in one step.
    """
    return httpx.AsyncClient(
        verify=tls or httpx.create_ssl_context(),
        follow_redirects=False,
        timeout=CALL_SECONDS,
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )


class Calls:
    """Calls to one API. ``base_url`` has no slash at its end; paths begin with one."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        base_url: str,
        access: Authorization,
        *,
        allow_http: bool,
        gate: RateLimitGate,
    ) -> None:
        self._client = client
        self._base_url = base_url
        self._access = access
        self._allow_http = allow_http
        self._gate = gate
        self._places = asyncio.Semaphore(MAX_CONCURRENT)

    async def call(
        self,
        method: str,
        path: str,
        *,
        expect: Collection[int],
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ApiResponse:
        """One call. Raises `ProviderFault` for a status that is not in ``expect``.

        Done twice where the first was refused for its credentials or by the limit: every call
        of these APIs may be repeated.
        """
        for attempt in (1, 2):
            await self._gate.wait()
            async with self._places:
                access = await self._access.headers()
                answer = await send(
                    self._client,
                    method,
                    self._base_url + path,
                    allow_http=self._allow_http,
                    params=params,
                    headers={**access, **(headers or {})},
                )
            if answer.status == 429:
                self._gate.close(answer.headers)
            if answer.status in expect:
                return answer
            if attempt == 2 or not self._may_repeat(answer, access):
                break
        raise self._fault(answer)

    def _may_repeat(self, answer: ApiResponse, access: Mapping[str, str]) -> bool:
        if answer.status == 401:
            return self._access.refused(access)
        return answer.status == 429

    def _fault(self, answer: ApiResponse) -> ProviderFault:
        return self._gate.fault() if answer.status == 429 else fault_of(answer.status)


def fault_of(status: int) -> ProviderFault:
    """What a status that was not expected means."""
    kind = {401: FaultKind.UNAUTHORIZED, 403: FaultKind.FORBIDDEN}.get(status)
    if kind is None:
        kind = FaultKind.UNAVAILABLE if status >= 500 else FaultKind.UNEXPECTED
    return ProviderFault(kind, f"http_{status}")


async def send(
    client: httpx.AsyncClient, method: str, url: str, *, allow_http: bool, **request: Any
) -> ApiResponse:
    """One request and its whole answer, whatever the status. Raises `ProviderFault`."""
    if not may_fetch(url, allow_http=allow_http):
        raise ProviderFault(FaultKind.UNEXPECTED, "not_https")
    try:
        async with (
            asyncio.timeout(CALL_SECONDS),
            client.stream(method, url, **request) as response,
        ):
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ProviderFault(FaultKind.UNEXPECTED, "content_encoding")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_RESPONSE:
                    raise ProviderFault(FaultKind.UNEXPECTED, "too_large")
            return ApiResponse(response.status_code, response.headers, bytes(body))
    except (TimeoutError, httpx.TimeoutException):
        raise ProviderFault(FaultKind.UNAVAILABLE, "timeout") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        raise ProviderFault(FaultKind.UNAVAILABLE, "connection") from None
