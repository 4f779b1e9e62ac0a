"""The key caches of the issuers in the settings, each kept fresh in a task of its own.

A change of the settings keeps the cache of every issuer that still fetches from the same place, so
no token waits for keys that were there.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable

from app.background import end, logged
from app.config.issuers import IssuerSettings
from app.tokens.first_fetches import first_fetches_attempted
from app.tokens.provider_keys import ProviderKeys

# What decides where keys come from, and when.
_OF_FETCHES = ("issuer", "jwks_uri", "allow_http", "jwks_refresh", "jwks_max_stale")

# Requests that began with the earlier settings, and tokens that wait for the keys, end before.
_RETIRE_SECONDS = 660.0


class ServedKeys:
    """``new`` makes the cache of an issuer. `by_issuer` is always the same mapping."""

    def __init__(
        self, issuers: Iterable[IssuerSettings], new: Callable[[IssuerSettings], ProviderKeys]
    ) -> None:
        self._new = new
        self.by_issuer = {issuer.issuer: new(issuer) for issuer in issuers}
        self._tasks: dict[ProviderKeys, asyncio.Task[None]] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep them fresh."""
        for keys in self.by_issuer.values():
            self._start(keys)
        try:
            yield
        finally:
            await end([*self._tasks.values(), *self._retiring])
            for keys in {*self._tasks, *self.by_issuer.values()}:
                await keys.aclose()

    async def prepared(self, issuers: Iterable[IssuerSettings]) -> dict[str, ProviderKeys]:
        """The caches for these issuers; waits until the first fetch of each new one was
        attempted."""
        prepared = {}
        for issuer in issuers:
            keys = self.by_issuer.get(issuer.issuer)
            if keys is None or _fetches(keys.issuer) != _fetches(issuer):
                keys = self._new(issuer)
                keys.logs_fetches = True
                self._start(keys)
            prepared[issuer.issuer] = keys
        await first_fetches_attempted([*prepared.values()])
        return prepared

    def serve(self, prepared: dict[str, ProviderKeys]) -> None:
        """Take these from now on."""
        for keys in {*self.by_issuer.values()} - {*prepared.values()}:
            task = asyncio.create_task(self._retire(keys))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        self.by_issuer.clear()
        self.by_issuer.update(prepared)

    def _start(self, keys: ProviderKeys) -> None:
        self._tasks[keys] = asyncio.create_task(logged(keys.keep_fresh))

    async def _retire(self, keys: ProviderKeys) -> None:
        """Close a cache that no token needs any more."""
        await asyncio.sleep(_RETIRE_SECONDS)
        await end([self._tasks.pop(keys)])
        await keys.aclose()


def _fetches(issuer: IssuerSettings) -> tuple[object, ...]:
    return tuple(getattr(issuer, name) for name in _OF_FETCHES)
