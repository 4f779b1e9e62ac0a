"""The keys of an issuer that are known from the start: nobody is asked for them."""

import asyncio

from app.config.issuers import IssuerSettings
from app.tokens.fetch import new_client
from app.tokens.jwks import KeySet
from app.tokens.provider_keys import KeyState, ProviderKeys


class FixedKeys(ProviderKeys):
    """A `ProviderKeys` that has its key set, and never fetches."""

    def __init__(self, issuer: IssuerSettings, key_set: KeySet) -> None:
        super().__init__(issuer, new_client())
        self._fixed = key_set

    def current(self) -> KeySet:
        return self._fixed

    async def joined(self, until: float) -> None:
        del until

    async def fetched(self, until: float) -> None:
        del until

    def fetched_since(self, arrived_at: float) -> bool:
        """There are no other keys: an unknown one is nobody's."""
        del arrived_at
        return True

    async def keep_fresh(self) -> None:
        await asyncio.Event().wait()

    async def refresh(self) -> None:
        """Nothing."""

    def state(self) -> KeyState:
        return KeyState(
            attempted=True, keys=len(self._fixed.keys), skipped=0, age=0.0, last_error=None
        )
