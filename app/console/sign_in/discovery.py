"""The provider's discovery document, cached by the rules of its keys.

Everybody can start a sign-in, which alone must not cause a request to the provider. The document is
fetched once it is older than ``jwks_refresh``, one fetch for all waiting requests; after a failure
at most every 1, 2, 4, ... 30 seconds. While fetches fail, it is used for ``jwks_max_stale``.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from app.config.issuers import IssuerSettings
from app.config.types import may_fetch
from app.log import new_log
from app.tokens.fetch import FetchFailed, fetch_document
from app.tokens.fetch_budget import BUDGET_INTERVAL
from app.tokens.provider_keys import FIRST_RETRY

log = new_log(__name__)


class Discovery:
    """OpenID Connect Discovery 1.0, section 4, of one issuer. ``monotonic`` measures ages."""

    def __init__(
        self,
        issuer: IssuerSettings,
        client: httpx.AsyncClient,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._client = client
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._document: Mapping[str, Any] | None = None
        self._fetched_at = float("-inf")
        self._failures = 0
        self._failed_at = float("-inf")
        self._error = "none"

    async def endpoint(self, name: str) -> str:
        """The address of an endpoint, such as ``token_endpoint``. Raises `FetchFailed`."""
        value = (await self._current()).get(name)
        if not isinstance(value, str) or not may_fetch(value, allow_http=self._issuer.allow_http):
            raise FetchFailed(name)
        return value

    async def lists(self, name: str, value: str) -> bool:
        """Whether the document's member ``name`` lists ``value``. Raises `FetchFailed`."""
        values = (await self._current()).get(name)
        return isinstance(values, list) and value in values

    async def _current(self) -> Mapping[str, Any]:
        async with self._lock:
            now = self._monotonic()
            if now - self._fetched_at > self._issuer.jwks_refresh and now >= self._retry_at():
                await self._fetch()
            if self._document is None or now - self._fetched_at > self._issuer.jwks_max_stale:
                raise FetchFailed(self._error)
            return self._document

    def _retry_at(self) -> float:
        if not self._failures:
            return float("-inf")
        pause: float = FIRST_RETRY * 2.0 ** min(self._failures - 1, 10)
        return self._failed_at + min(pause, BUDGET_INTERVAL)

    async def _fetch(self) -> None:
        began = self._monotonic()
        try:
            self._document = await self._read()
        except FetchFailed as error:
            self._error = error.code
            self._failures += 1
            self._failed_at = self._monotonic()
            log.warning("discovery", outcome="failed", error=error.code)
        else:
            self._fetched_at = began
            self._failures = 0

    async def _read(self) -> Mapping[str, Any]:
        url = self._issuer.issuer.rstrip("/") + "/.well-known/openid-configuration"
        text = await fetch_document(self._client, url, allow_http=self._issuer.allow_http)
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise FetchFailed("discovery_not_json") from None
        if not isinstance(document, dict) or document.get("issuer") != self._issuer.issuer:
            raise FetchFailed("discovery_issuer")
        return document
