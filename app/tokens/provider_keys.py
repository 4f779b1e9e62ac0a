"""The keys of one issuer: fetched, cached, refreshed in the background and, within a budget, when
no cached key verifies a token.

Each issuer has its own cache, task and budget, so that a broken provider never delays the tokens
of another.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from app.config.issuers import IssuerSettings
from app.config.types import SHARED_SECRET
from app.errors import DependencyUnavailable, Outage, Reason, TokenRefused
from app.log import new_log
from app.tokens import signed_jwt
from app.tokens.fetch import FetchFailed, fetch_document, other_issuer
from app.tokens.fetch_budget import BUDGET_INTERVAL, Charge, fetch_budget
from app.tokens.jwks import KeySet, NotAKeySet, read_key_set
from app.tokens.signed_jwt import SignedClaims, UnverifiedJwt
from app.tracing import span

log = new_log(__name__)

# How long a request waits for keys. It has 1.8 s; the rest is for Redis.
MAX_WAIT = 1.5

# After a failed fetch the background task tries again after 1, 2, 4, ... 30 s.
FIRST_RETRY = 1.0

# How long the first fetch holds back readiness. A provider that hangs must not delay the others;
# a token that arrives meanwhile waits for the fetch.
FIRST_FETCH_SECONDS = 0.5

# Requests that wait for one fetch. Each holds a place of the admission limit, so the rest of a
# flood of unknown key ids is answered at once: tokens with known keys still find places.
MAX_WAITING = 256

# The pause before the next fetch for a token, as a multiple of the time that parsing the last key
# set took: one issuer with a large key set must not slow down all others.
PARSE_PAUSE_FACTOR = 10

# Parsing takes milliseconds. If the machine stalled meanwhile, a token still gets its fetch.
MAX_PARSE_PAUSE = 1.0

# What other keys could change.
_OF_THE_KEYS = frozenset({Reason.KEY_UNKNOWN, Reason.SIGNATURE, Reason.KEY_MISMATCH})


@dataclass(frozen=True, slots=True)
class KeyState:
    """The state of an issuer's keys, for `/readyz` and the command line."""

    attempted: bool
    """Whether the first fetch has ended, or has run for `FIRST_FETCH_SECONDS`."""
    keys: int
    skipped: int
    age: float | None
    """Seconds since the fetch that brought the keys began."""
    last_error: str | None
    last_detail: str = ""
    """Details of ``last_error`` for operators."""


class ProviderKeys:
    """The key cache of one issuer. ``clock`` returns epoch seconds, ``monotonic`` measures ages."""

    def __init__(
        self,
        issuer: IssuerSettings,
        client: httpx.AsyncClient,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        on_fetched: Callable[[str, str | None], None] = lambda _, __: None,
        logs_fetches: bool = True,
    ) -> None:
        """``on_fetched`` is called after each fetch with the issuer and the error, if any.

        ``logs_fetches``: whether to log fetches that succeed, unless one has failed before.
        """
        self.issuer = issuer
        self._on_fetched = on_fetched
        self._client = client
        self._clock = clock
        self._monotonic = monotonic
        self._budget = fetch_budget(monotonic)
        self._log_budget = fetch_budget(monotonic)
        """Limits log lines: refunded fetches are unlimited."""
        self._key_set: KeySet | None = None
        self._began_at = float("-inf")
        """Epoch seconds at which the last successful fetch began."""
        self._began_monotonic = float("-inf")
        self._max_stale = issuer.jwks_max_stale
        self._discovered_uri: str | None = None
        self._in_flight: asyncio.Task[None] | None = None
        self._waiting = 0
        self.logs_fetches = logs_fetches
        self.has_ended_a_fetch = False
        """With any result."""
        self._first_began = float("inf")
        """When the first fetch began, on ``monotonic``."""
        self._last_error: str | None = None
        self._last_detail = ""
        self._failures = 0
        """Failed fetches since the last successful one."""
        self._ended_at = float("-inf")
        """When the last fetch ended, on ``monotonic``."""
        self._next_at = float("-inf")
        """When the next fetch for a token may begin, on ``monotonic``."""
        self._wanted = False
        self._rescheduled = asyncio.Event()
        self._on_arrival: list[Callable[[], None]] = []

    def serve(self, issuer: IssuerSettings) -> None:
        """Take these settings from now on; keys come from the same place."""
        self.issuer = issuer

    # -- verifying ------------------------------------------------------------------------

    def current(self) -> KeySet | None:
        """The cached keys, unless they are older than ``jwks_max_stale``."""
        stale = self._monotonic() - self._began_monotonic > self._max_stale
        return None if stale else self._key_set

    async def verify(
        self,
        jwt: UnverifiedJwt,
        issuer: IssuerSettings,
        *,
        arrived_at: float,
        until: float | None = None,
    ) -> SignedClaims:
        """`signed_jwt.verify`, fetching keys where that can help.

        ``arrived_at`` is when the token reached us, in epoch seconds. ``until``, in the event
        loop's time, is when to stop waiting for keys; `MAX_WAIT` from now by default. Raises
        `TokenRefused` if no key of the issuer can have signed the token, and
        `DependencyUnavailable` while that is not certain.
        """
        if until is None:
            until = asyncio.get_running_loop().time() + MAX_WAIT
        try:
            return signed_jwt.verify(jwt, issuer, self.current())
        except TokenRefused as error:
            refusal = error
        # The running fetch may have begun before the provider published the key: hence two.
        for fetch in (self._join_fetch, self._fetch_within_budget):
            known = refusal.reason is not Reason.KEY_UNKNOWN
            if known and not self._may_change(jwt, refusal, arrived_at):
                raise refusal
            if (key_set := await fetch(until, refusal)) is not None:
                try:
                    return signed_jwt.verify(jwt, issuer, key_set)
                except TokenRefused as error:
                    refusal = error
        # A bad signature is then final, unless a fetch is still running: otherwise each forgery
        # of a flood would be parked.
        awaited = refusal.reason is Reason.KEY_UNKNOWN or self._in_flight is not None
        if awaited and self._may_change(jwt, refusal, arrived_at):
            raise DependencyUnavailable(Outage.KEYS_UNAVAILABLE)
        raise refusal

    def verify_parked(
        self, jwt: UnverifiedJwt, issuer: IssuerSettings, *, arrived_at: float
    ) -> SignedClaims:
        """`signed_jwt.verify` with the cached keys. Raises `DependencyUnavailable` while a newer
        key set could give another answer."""
        try:
            return signed_jwt.verify(jwt, issuer, self.current())
        except TokenRefused as refusal:
            if self._may_change(jwt, refusal, arrived_at):
                raise DependencyUnavailable(Outage.KEYS_UNAVAILABLE) from None
            raise

    def may_fetch_for(self, jwt: UnverifiedJwt, refusal: TokenRefused, arrived_at: float) -> bool:
        """Whether a fetch that is running or within the budget could change this refusal.

        Asked for every bad signature, so that a flood of them costs no task once the budget is
        used up.
        """
        if not self._may_change(jwt, refusal, arrived_at):
            return False
        if self._in_flight is not None:
            return self._waiting < MAX_WAITING
        return self._within_budget(refusal)

    def _within_budget(self, refusal: TokenRefused) -> bool:
        """The last fetch is for a token with an unknown key: forgeries that name a known one must
        not delay a rotation."""
        return self._budget.holds(1 if refusal.reason is Reason.KEY_UNKNOWN else 2)

    def _may_change(self, jwt: UnverifiedJwt, refusal: TokenRefused, arrived_at: float) -> bool:
        """Whether a newer key set could give another answer.

        Only a key set fetched after the token had arrived makes the answer final: by then the
        provider had published the key. It may have a new ``kid`` or, at some providers, an old
        one. The token's own ``iat`` decides nothing. Anybody can write one in the future, for
        which every fetch would be too early; and if the provider's clock is slow, a key set from
        before the rotation would count as one from after it.
        """
        if refusal.reason not in _OF_THE_KEYS or self._fetched_since(arrived_at):
            return False
        return bool(jwt.unverified_header["alg"] != SHARED_SECRET)

    def _fetched_since(self, arrived_at: float) -> bool:
        return self._began_at >= arrived_at

    async def _join_fetch(self, until: float, refusal: TokenRefused) -> KeySet | None:
        del refusal
        if self._in_flight is None:
            return None
        return await self._after(self._in_flight, until)

    async def _fetch_within_budget(self, until: float, refusal: TokenRefused) -> KeySet | None:
        if self._in_flight is None:
            if not (self._within_budget(refusal) and self._budget.take()):
                return None
            self._start(Charge(self._budget))
        return await self._after(self._start(), until)

    # -- parked tokens ----------------------------------------------------------------------

    def want(self) -> None:
        """Request a fetch `BUDGET_INTERVAL` after the last one, for a token that waits.

        Counts for the next fetch only: call it again if that did not bring the key.
        """
        self._wanted = True
        self._rescheduled.set()

    def on_arrival(self, callback: Callable[[], None]) -> None:
        """Register a callback for each new key set. It must not raise or block."""
        self._on_arrival.append(callback)

    # -- fetching -------------------------------------------------------------------------

    async def keep_fresh(self) -> None:
        """Fetch now and whenever a fetch is due. Never returns.

        A fetch is due ``jwks_refresh`` after the last one of any kind; sooner after a failure and
        while a token waits.
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
            # The exponent is bounded: a provider may be down for weeks.
            pause = min(pause, FIRST_RETRY * 2 ** min(self._failures - 1, 10), BUDGET_INTERVAL)
        elif self._wanted:
            pause = min(pause, BUDGET_INTERVAL)
        return self._ended_at + pause

    async def refresh(self) -> None:
        """Fetch now; `state` has the result. For the command line."""
        await asyncio.wait({self._start()})

    async def fetch_now(self) -> KeyState:
        """Fetch for an operator: never satisfied by a fetch that has begun before."""
        if self._in_flight is not None:
            await asyncio.wait({self._in_flight})
        await asyncio.wait({self._start()})
        return self.state()

    def state(self) -> KeyState:
        """A snapshot of the cache."""
        key_set, first = self._key_set, self._monotonic() - self._first_began
        return KeyState(
            attempted=self.has_ended_a_fetch or first >= FIRST_FETCH_SECONDS,
            keys=len(key_set.keys) if key_set else 0,
            skipped=key_set.skipped if key_set else 0,
            age=self._monotonic() - self._began_monotonic if key_set else None,
            last_error=self._last_error,
            last_detail=self._last_detail,
        )

    async def aclose(self) -> None:
        """Cancel the running fetch."""
        if self._in_flight is not None:
            self._in_flight.cancel()
            await asyncio.wait({self._in_flight})

    async def _after(self, fetch: asyncio.Task[None], until: float) -> KeySet | None:
        if self._waiting < MAX_WAITING:
            self._waiting += 1
            try:
                # wait() instead of await: a request that gives up must not cancel the shared fetch.
                now = asyncio.get_running_loop().time()
                await asyncio.wait({fetch}, timeout=max(0, until - now))
            finally:
                self._waiting -= 1
        return self.current()

    def _start(self, charge: Charge | None = None) -> asyncio.Task[None]:
        """The running fetch, or a new one: never two at once for one issuer."""
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
        self._first_began = min(self._first_began, began_monotonic)
        self._wanted = False
        name = self.issuer.issuer
        try:
            with span("keys.fetch", issuer=name):
                key_set = await self._fetch_key_set()
        except FetchFailed as error:
            self._last_error, self._last_detail = error.code, error.detail
            self._failures += 1
            # The provider may have moved its keys: rediscover them next time.
            self._discovered_uri = None
            detail = {"detail": error.detail} if error.detail else {}
            log.warning("keys", outcome="failed", issuer=name, error=error.code, **detail)
        except Exception:
            # A bug in this task must not end the refreshing of keys.
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
            if self._failures or (self.logs_fetches and self._log_budget.take()):
                log.info("keys", outcome="fetched", issuer=name, keys=usable, skipped=skipped)
            self._last_error = None
            self._failures = 0
            for callback in self._on_arrival:
                callback()
        finally:
            self.has_ended_a_fetch = True
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
            self._next_at = ended + min(MAX_PARSE_PAUSE, PARSE_PAUSE_FACTOR * (ended - began))

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
            # Section 4.3: otherwise one tenant could supply keys for another.
            raise other_issuer(metadata.get("issuer"), self.issuer.issuer)
        uri = metadata.get("jwks_uri")
        if not isinstance(uri, str):
            raise FetchFailed("discovery_jwks_uri")
        return uri
