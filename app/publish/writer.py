"""Hands the revocations of one message to the store: all of them, or no acknowledgement."""

import asyncio
from collections.abc import Sequence

from app.errors import DependencyUnavailable
from app.revocation import Revocation

from .store import Store


class Writer:
    """The one way from a revocation to Redis, for every source."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def write(self, revocations: Sequence[Revocation]) -> bool:
        """Write one revocation for each relying app concerned; all of them are tried.

        True when at least one was new, False when the message only repeated what was
        written. Raises `DependencyUnavailable` when one was not acknowledged: the sender's
        repetition is then new for that app and a repetition for the others.
        """
        results = await asyncio.gather(
            *(self._store.write(revocation) for revocation in revocations),
            return_exceptions=True,
        )
        faults = [result for result in results if isinstance(result, BaseException)]
        for fault in faults:
            if not isinstance(fault, DependencyUnavailable):
                raise fault
        if faults:
            raise faults[0]
        return any(results)
