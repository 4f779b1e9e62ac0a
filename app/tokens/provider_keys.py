"""The keys of one issuer: fetched, cached, renewed in the background and, within a budget,
when a token needs a key that is not there.

Each issuer has its own object, task and budget, so that a broken one never delays another.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from app.config.issuers import IssuerSettings
from app.log import new_log
from app.tokens.fetch import FetchFailed, fetch_document, other_issuer
from app.tokens.fetch_budget import BUDGET_INTERVAL, Charge, fetch_budget
from app.tokens.jwks import KeySet, NotAKeySet, read_key_set
from app.tracing import span

log = new_log(__name__)

# A request has 1.8 s in all; what is left after this is for Redis.
LONGEST_WAIT = 1.5

# After a failed fetch the background task tries again after 1, 2, 4, ... 30 s.
FIRST_RETRY = 1.0

# Each request that waits for a fetch keeps a place in the work that is bounded; beyond these
# (a flood of unknown key ids, while the provider hangs) tokens are told at once that there is
# no key now, so that those whose keys are known find places.
MOST_WAITING = 256

# A fetch for a token begins no sooner after the last one than this many times what reading that
# key set took: else one issuer, whose large set is fetched again and again, slows all others.
READING_PAUSE = 10

# Reading takes milliseconds. Where the machine stood still meanwhile, a token is still in time.
MAX_READING_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class KeyState:
    """What `/readyz` and the command line show of an issuer's keys."""

    attempted: bool
    keys: int
    skipped: int
    age: float | None
    """Seconds since the fetch that brought the keys began."""
    last_error: str | None
    last_detail: str = ""
    """What an operator has to know beside ``last_error``."""


class ProviderKeys:
    """The key cache of one issuer. ``clock`` is epoch seconds, ``monotonic`` measures ages."""

    def __init__(
        self,
        issuer: IssuerSettings,
        client: httpx.AsyncClient,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        on_fetched: Callable[[str, str | None], None] = lambda _, __: None,
    ) -> None:
        """``on_fetched`` is told the issuer, and the error, of each fetch that has ended."""
        self.issuer = issuer
        self._on_fetched = on_fetched
        self._client = client
        self._clock = clock
        self._monotonic = monotonic
        self._budget = fetch_budget(monotonic)
        self._lines = fetch_budget(monotonic)
        """Of the log: fetches that are given back have no limit of their own."""
        self._key_set: KeySet | None = None
        self._began_at = float("-inf")
        """Epoch seconds at which the last successful fetch began."""
        self._began_monotonic = float("-inf")
        self._max_stale = issuer.jwks_max_stale
        self._discovered_uri: str | None = None
        self._in_flight: asyncio.Task[None] | None = None
        self._waiting = 0
        self._attempted = False
        self._last_error: str | None = None
        self._last_detail = ""
        self._failures = 0
        """Fetches that failed since the last good one."""
        self._ended_at = float("-inf")
        """When the last fetch ended, on ``monotonic``."""
        self._next_at = float("-inf")
        """When the next fetch for a token may begin, on ``monotonic``."""
        self._wanted = False
        self._rescheduled = asyncio.Event()
        self._on_arrival: list[Callable[[], None]] = []

    # -- what a verification asks for, in this order ------------------------------------

    def current(self) -> KeySet | None:
        """The cached keys, unless they are older than ``jwks_max_stale``."""
        stale = self._monotonic() - self._began_monotonic > self._max_stale
        return None if stale else self._key_set

    async def joined(self, until: float) -> KeySet | None:
        """The keys after the fetch that is under way; None where there is none.

        ``until``, in the event loop's time, is when the request gives up waiting.
        """
        if self._in_flight is None:
            return None
        return await self._after(self._in_flight, until)

    async def fetched(self, until: float) -> KeySet | None:
        """The keys after a fetch of our own; None where the budget does not allow one."""
        if self._in_flight is None:
            if not self._budget.take():
                return None
            self._start(Charge(self._budget))
        return await self._after(self._start(), until)

    def fetched_since(self, arrived_at: float) -> bool:
        """Whether the key set was fetched after a token had arrived, in epoch seconds.

        Only then is an unknown key a final answer: the provider had published the key by then.
        The token's own ``iat`` decides nothing. Anybody can write one that lies ahead, for which
        every fetch would be too early; and by a provider's clock that is slow, a key set from
        before the rotation would count as one from after it.
        """
        return self._began_at >= arrived_at

    # -- for tokens that can wait -----------------------------------------------------------

    def want(self) -> None:
        """Say that a token waits for keys newer than those that are known.

        `keep_fresh` then looks `BUDGET_INTERVAL` after the last fetch. Said once for each
        fetch: who still waits when a key set has arrived says it again.
        """
        self._wanted = True
        self._rescheduled.set()

    def on_arrival(self, call: Callable[[], None]) -> None:
        """Have ``call`` called whenever a key set has arrived. It must not raise or block."""
        self._on_arrival.append(call)

    # -- fetching -------------------------------------------------------------------------

    async def keep_fresh(self) -> None:
        """Fetch now and whenever it is due. Never returns.

        Due is ``jwks_refresh`` after the last fetch, whoever asked for that; sooner after one
        that failed, and while a token waits.
        """
        while True:
            await asyncio.wait({self._start()})
            while (left := self._due_at() - self._monotonic()) > 0:
                self._rescheduled.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._rescheduled.wait()

    def _due_at(self) -> float:
        pause: float = self.issuer.jwks_refresh
        if self._failures:
            # The exponent is bounded: a provider may be gone for weeks.
            pause = min(pause, FIRST_RETRY * 2 ** min(self._failures - 1, 10), BUDGET_INTERVAL)
        elif self._wanted:
            pause = min(pause, BUDGET_INTERVAL)
        return self._ended_at + pause

    async def refresh(self) -> None:
        """One fetch, now; `state` tells how it went. For the command line."""
        await asyncio.wait({self._start()})

    def state(self) -> KeyState:
        """A snapshot for people."""
        key_set = self._key_set
        return KeyState(
            attempted=self._attempted,
            keys=len(key_set.keys) if key_set else 0,
            skipped=key_set.skipped if key_set else 0,
            age=self._monotonic() - self._began_monotonic if key_set else None,
            last_error=self._last_error,
            last_detail=self._last_detail,
        )

    async def aclose(self) -> None:
        """Give up the fetch that is under way."""
        if self._in_flight is not None:
            self._in_flight.cancel()
            await asyncio.wait({self._in_flight})

    async def _after(self, fetch: asyncio.Task[None], until: float) -> KeySet | None:
        if self._waiting < MOST_WAITING:
            self._waiting += 1
            try:
                # wait() and not await: who gives up must not cancel the others' fetch.
                now = asyncio.get_running_loop().time()
                await asyncio.wait({fetch}, timeout=max(0, until - now))
            finally:
                self._waiting -= 1
        return self.current()

    def _start(self, charge: Charge | None = None) -> asyncio.Task[None]:
        """The fetch under way, or a new one: never two at once for one issuer."""
        if self._in_flight is None:
            self._in_flight = asyncio.create_task(self._fetch(charge))
            self._in_flight.add_done_callback(self._landed)
        return self._in_flight

    def _landed(self, fetch: asyncio.Task[None]) -> None:
        self._in_flight = None
        if not fetch.cancelled():
            self._on_fetched(self.issuer.issuer, self._last_error)
        self._rescheduled.set()

    async def _fetch(self, charge: Charge | None) -> None:
        if charge is not None and (pause := self._next_at - self._monotonic()) > 0:
            await asyncio.sleep(pause)
        began_at, began_monotonic = self._clock(), self._monotonic()
        self._wanted = False
        name = self.issuer.issuer
        try:
            with span("keys.fetch", issuer=name):
                key_set = await self._fetch_key_set()
        except FetchFailed as error:
            self._last_error, self._last_detail = error.code, error.detail
            self._failures += 1
            # The provider may have moved its keys: look them up anew next time.
            self._discovered_uri = None
            detail = {"detail": error.detail} if error.detail else {}
            log.warning("keys", outcome="failed", issuer=name, error=error.code, **detail)
        except Exception:
            # A fault of ours in this task must not end the renewal of the keys.
            self._last_error = "internal"
            self._failures += 1
            log.exception("keys", outcome="failed", issuer=name, error="internal")
        else:
            if self._key_set is not None:
                key_set.replaces(self._key_set)
            if charge is not None:
                charge.await_proof(key_set, self._key_set)
            self._key_set = key_set
            self._began_at, self._began_monotonic = began_at, began_monotonic
            usable, skipped = len(key_set.keys), key_set.skipped
            if self._failures or self._lines.take():
                log.info("keys", outcome="fetched", issuer=name, keys=usable, skipped=skipped)
            self._last_error = None
            self._failures = 0
            for call in self._on_arrival:
                call()
        finally:
            self._attempted = True
            self._ended_at = self._monotonic()

    async def _fetch_key_set(self) -> KeySet:
        uri = self.issuer.jwks_uri or self._discovered_uri
        if uri is None:
            uri = self._discovered_uri = await self._discover()
        document = await fetch_document(self._client, uri, allow_http=self.issuer.allow_http)
        began = self._monotonic()
        try:
            return read_key_set(document)
        except NotAKeySet:
            raise FetchFailed("not_a_key_set") from None
        finally:
            ended = self._monotonic()
            self._next_at = ended + min(MAX_READING_PAUSE, READING_PAUSE * (ended - began))

    async def _discover(self) -> str:
        """``jwks_uri`` of the provider's metadata (OpenID Connect Discovery 1.0, section 4)."""
        url = self.issuer.issuer.removesuffix("/") + "/.well-known/openid-configuration"
        document = await fetch_document(self._client, url, allow_http=self.issuer.allow_http)
        try:
            metadata = json.loads(document)
        except (ValueError, RecursionError):
            raise FetchFailed("discovery_not_json") from None
        if not isinstance(metadata, dict):
            raise other_issuer(None, self.issuer.issuer)
        if metadata.get("issuer") != self.issuer.issuer:
            # Section 4.3: otherwise one tenant could hand out its keys for another.
            raise other_issuer(metadata.get("issuer"), self.issuer.issuer)
        uri = metadata.get("jwks_uri")
        if not isinstance(uri, str):
            raise FetchFailed("discovery_jwks_uri")
        return uri
