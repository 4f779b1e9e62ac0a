"""Decrypts tokens one after the other, so that they never take the time of signed ones.

A decryption blocks the event loop for about a millisecond, thirty times as long as a signature, and
anybody can cause one. So each is followed by a pause as long as it took: under any flood, half of
the time remains. Queued tokens hold a place for each key to be tried, and share the places of one
issuer; any more are answered with 503 at once.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Self

from app.backchannel.admission import FairSemaphore
from app.config.issuers import IssuerSettings
from app.config.secrets import DecryptionKey
from app.errors import Reason, TokenRefused
from app.tokens.encrypted_jwt import Decrypter

# A token without a ``kid`` takes at most this fraction of all places, however many keys there are:
# otherwise it could never be admitted where places are few.
_MAX_FRACTION = 16

# A name which no issuer has.
SHARE = "encrypted"


class DecryptionQueue:
    """Decrypts tokens in turn. For use in one event loop."""

    def __init__(self, decrypter: Decrypter, places: FairSemaphore) -> None:
        self._decrypter = decrypter
        self._places = places
        self._turn = asyncio.Lock()
        self._next_at = 0.0

    @classmethod
    def of(cls, issuers: Mapping[str, IssuerSettings], places: FairSemaphore) -> Self | None:
        """For issuers, keyed by every name of each; None if none has a decryption key."""
        decrypter = Decrypter(issuers)
        return cls(decrypter, places) if decrypter.keys else None

    async def decrypt(self, token: bytes) -> bytes:
        """The signed token inside an encrypted one, not verified.

        Raises `TokenRefused`, and `DependencyUnavailable` if the queue is full.
        """
        keys = self._decrypter.candidates(token)
        max_places = max(1, self._places.max_places // _MAX_FRACTION)
        with contextlib.ExitStack() as places:
            for _ in keys[:max_places]:
                places.enter_context(self._places.place(SHARE))
            for key in keys:
                if (inner := await self._try(key, token)) is not None:
                    return inner
        raise TokenRefused(Reason.DECRYPTION)

    async def _try(self, key: DecryptionKey, token: bytes) -> bytes | None:
        """One private-key operation, in turn."""
        async with self._turn:
            await asyncio.sleep(self._next_at - time.monotonic())
            began = time.monotonic()
            try:
                return self._decrypter.decrypt_with(key, token)
            finally:
                now = time.monotonic()
                self._next_at = now + (now - began)
