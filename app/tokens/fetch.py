"""Fetches one JSON document from a provider, within limits."""

import asyncio
import ssl
from http.cookiejar import DefaultCookiePolicy

import httpx

from app.config.types import may_fetch
from app.formatting import quoted

# A provider which needs longer is down; cached keys serve meanwhile.
FETCH_SECONDS = 5.0

# Real key sets and discovery documents have 1 to 20 KiB.
LARGEST_DOCUMENT = 512 * 1024


class FetchFailed(Exception):
    """The document could not be fetched, or is not the expected one.

    ``code`` is stable and contains nothing of the response. ``detail``, for operators only, may
    quote a short and escaped part of it.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


def other_issuer(named: object, configured: str) -> FetchFailed:
    """The fault of a discovery document which names another issuer than the settings."""
    name = quoted(named) if isinstance(named, str) else "no issuer"
    return FetchFailed("discovery_issuer", f"it names {name}, the settings {quoted(configured)}")


def new_client(tls: ssl.SSLContext | None = None, *, keep_alive: bool = True) -> httpx.AsyncClient:
    """A new HTTP client for providers' documents and APIs; the caller closes it. No redirects.

    Pass ``tls`` to reuse a context: loading the authorities takes about 50 ms. Without
    ``keep_alive`` no connection stays open between requests. Accepts ``identity``
    only, because a compressed response could expand to many times the limit in one step. Stores no
    cookie, because users share the client: one user's cookie would be sent for another.
    """
    client = httpx.AsyncClient(
        verify=tls or httpx.create_ssl_context(),
        follow_redirects=False,
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=20 if keep_alive else 0),
        timeout=FETCH_SECONDS,
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client


async def fetch_document(client: httpx.AsyncClient, url: str, *, allow_http: bool) -> bytes:
    """The body of a 200 response. Raises `FetchFailed`."""
    if not may_fetch(url, allow_http=allow_http):
        raise FetchFailed("not_https")
    try:
        async with asyncio.timeout(FETCH_SECONDS), client.stream("GET", url) as response:
            if response.status_code != 200:
                raise FetchFailed(f"http_{response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise FetchFailed("content_encoding")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > LARGEST_DOCUMENT:
                    raise FetchFailed("too_large")
            return bytes(body)
    except (TimeoutError, httpx.TimeoutException):
        raise FetchFailed("timeout") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        raise FetchFailed("connection") from None
