"""Keys of an issuer which are known from the start and never fetched."""

import asyncio

from app.config.issuers import IssuerSettings
from app.errors import TokenRefused
from app.tokens.fetch import new_client
from app.tokens.jwks import KeySet
from app.tokens.provider_keys import KeyState, ProviderKeys


class FixedKeys(ProviderKeys):
    """A `ProviderKeys` which is given its key set and never fetches."""

    def __init__(self, issuer: IssuerSettings, key_set: KeySet) -> None:
        super().__init__(issuer, new_client())
        self._fixed = key_set
        self.has_ended_a_fetch = True

    def current(self) -> KeySet:
        return self._fixed

    async def _join_fetch(self, until: float, refusal: TokenRefused) -> None:
        del until, refusal

    async def _fetch_within_budget(self, until: float, refusal: TokenRefused) -> None:
        del until, refusal

    def _fetched_since(self, arrived_at: float) -> bool:
        """An unknown key is final: there are no other keys."""
        del arrived_at
        return True

    async def keep_fresh(self) -> None:
        await asyncio.Event().wait()

    async def refresh(self) -> None:
        """Nothing to fetch."""

    async def fetch_now(self) -> KeyState:
        return self.state()

    def state(self) -> KeyState:
        return KeyState(
            attempted=True, keys=len(self._fixed.keys), skipped=0, age=0.0, last_error=None
        )
