"""Encrypted tokens, one after the other, so that they never take the signed ones' time.

A decryption holds the event loop for about a millisecond, thirty times as long as a signature, and
anybody can ask for one. So each is followed by a pause as long as it took: however many come, half
of the time is left. Those in line hold a place for each key that must be tried, and together have
the share of one issuer; more than that are answered with 503 at once.
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
from app.tokens.encrypted_jwt import Opener, is_encrypted

# A token without a ``kid`` needs no more of the places than this part of all, however many keys
# there are: else it could not be admitted where there are few.
_LARGEST_PART = 16

# A name that no issuer has.
SHARE = "encrypted"


class DecryptionQueue:
    """Opens encrypted tokens in turn. Used in one event loop."""

    def __init__(self, opener: Opener, places: FairSemaphore) -> None:
        self._opener = opener
        self._places = places
        self._turn = asyncio.Lock()
        self._next_at = 0.0

    @classmethod
    def of(cls, issuers: Mapping[str, IssuerSettings], places: FairSemaphore) -> Self | None:
        """For issuers by every name of each; None where none of them has a decryption key."""
        opener = Opener(issuers)
        return cls(opener, places) if opener.keys else None

    async def opened(self, token: bytes) -> bytes:
        """The signed token in ``token``, or ``token`` itself where it is not encrypted.

        Raises `TokenRefused`, and `DependencyUnavailable` where too many are in line.
        """
        if not is_encrypted(token):
            return token
        keys = self._opener.fitting(token)
        most = max(1, self._places.most // _LARGEST_PART)
        with contextlib.ExitStack() as places:
            for _ in keys[:most]:
                places.enter_context(self._places.taken(SHARE))
            for key in keys:
                if (inner := await self._opened_by(key, token)) is not None:
                    return inner
        raise TokenRefused(Reason.DECRYPTION)

    async def _opened_by(self, key: DecryptionKey, token: bytes) -> bytes | None:
        """One private-key operation, in its turn."""
        async with self._turn:
            await asyncio.sleep(self._next_at - time.monotonic())
            began = time.monotonic()
            try:
                return self._opener.opened_by(key, token)
            finally:
                now = time.monotonic()
                self._next_at = now + (now - began)
