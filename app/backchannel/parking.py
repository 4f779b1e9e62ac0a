"""Parks tokens in memory while their keys are not available.

Their requests were answered with 503, and most providers never retry: without parking, a key server
which is down for a minute loses the logouts of that minute. When a key set arrives, each token is
validated as of its arrival and written like any other. Nothing here survives the process.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial

from app.backchannel.parked_tokens import ENTRY_BYTES, ParkedToken, ParkedTokens
from app.backchannel.pipeline import REQUEST_SECONDS, Attempt, Provider
from app.background import end, logged
from app.errors import DependencyUnavailable, Outage, Reason, TokenRefused, fault_of
from app.log import new_log
from app.publish.writer import Writer
from app.telemetry.attempt_log import AttemptRecord, Reporter
from app.tokens import logout_token

log = new_log(__name__)

# A key server that is still down by then will not come back soon.
MAX_STAY = 600.0

# Over all issuers.
MAX_BYTES = 64 << 20

# Real ones have 600 to 2,000 bytes. A body may be eight times as large, and a few hundred such
# forgeries would fill an issuer's places.
MAX_TOKEN = 8 << 10

# How often unwritten tokens are tried again and old ones dropped.
RETRY_SECONDS = 5.0

# At most one log line about a full parking in this time, instead of one for each token of a flood.
LOG_SECONDS = 60.0


class _Row:
    """The parked tokens of one issuer."""

    def __init__(self, provider: Provider) -> None:
        self.serve(provider)
        self.tokens = ParkedTokens()
        self.due = asyncio.Event()
        """A key set has arrived."""
        self.unwritten = False
        """A verified token could not be written."""
        self.turned_away: Counter[str] = Counter()
        self.logged_at: dict[str, float] = {}

    def serve(self, provider: Provider) -> None:
        self.provider = provider
        self.issuer = provider.issuer


class Parking:
    """Keeps tokens whose keys are missing, and retries them when a key set arrives.

    ``max_tokens`` and ``max_bytes`` are limits per issuer; 0 turns parking off. When it is full, a
    random token loses its place (`ParkedTokens`). ``clock`` returns epoch seconds.
    """

    def __init__(
        self,
        providers: Iterable[Provider],
        writer: Writer,
        *,
        max_tokens: int,
        max_bytes: int,
        reporter: Reporter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows: dict[str, _Row] = {}
        self._providers: dict[str, Provider] = {}
        self._tasks: list[asyncio.Task[None]] | None = None
        self._writer = writer
        self._max_tokens = max_tokens
        self._max_bytes = max_bytes
        self._reporter = reporter or Reporter()
        self._clock = clock
        self._bytes = 0
        self.serve(providers)

    def serve(self, providers: Iterable[Provider]) -> None:
        """Take these providers from now on. Tokens of all others stay until their time is up."""
        providers = list(providers)
        self._providers.update({name: one for one in providers for name in one.issuer.names})
        for provider in providers:
            row = self._rows.get(provider.issuer.issuer)
            if row is None:
                row = self._rows[provider.issuer.issuer] = _Row(provider)
                if self._tasks is not None:
                    self._tasks.append(asyncio.create_task(logged(partial(self._attend, row))))
            elif row.provider.keys is provider.keys:
                row.serve(provider)
                continue
            row.serve(provider)
            provider.keys.on_arrival(row.due.set)
            row.due.set()

    def __len__(self) -> int:
        return sum(len(row.tokens) for row in self._rows.values())

    def depths(self) -> Iterator[tuple[str, int, int, float]]:
        """For each issuer: its name, parked tokens, their bytes, and the age of the oldest in
        seconds."""
        now = self._clock()
        for issuer, row in self._rows.items():
            oldest = row.tokens.oldest()
            seconds = 0.0 if oldest is None else max(0.0, now - oldest[1].arrived_at)
            yield issuer, len(row.tokens), row.tokens.bytes, seconds

    def park(self, attempt: Attempt) -> None:
        """Keep the token of an attempt which has been parsed. Never fails.

        Ignores a token that is parked already, would be refused with any key, or is too large.
        """
        token, arrived_at = attempt.unverified_token, attempt.arrived_at
        row = self._rows[attempt.issuer.issuer]
        if not self._max_tokens or not self._max_bytes or token in row.tokens:
            return
        try:
            logout_token.check_claims(attempt.jwt.unverified_claims, row.issuer, now=arrived_at)
        except TokenRefused:
            return
        if len(token) > min(MAX_TOKEN, self._max_bytes - ENTRY_BYTES):
            self._turn_away(row, "too_large", arrived_at)
            return
        if self._make_room(row, len(token) + ENTRY_BYTES, arrived_at):
            row.tokens.add(token, ParkedToken(arrived_at, attempt.record.request_id))
            self._bytes += len(token) + ENTRY_BYTES
            row.provider.keys.want()

    def _make_room(self, row: _Row, size: int, now: float) -> bool:
        """Make room for a token of ``size`` bytes, dropping others. Returns whether that worked."""
        while len(row.tokens) >= self._max_tokens or row.tokens.bytes + size > self._max_bytes:
            if not self._drop_random(row, now):
                return False
        while self._bytes + size > MAX_BYTES:
            # At the expense of the issuer with the most, never of the others.
            fullest = max(self._rows.values(), key=lambda row: row.tokens.bytes)
            if not self._drop_random(fullest, now):
                return False
        return True

    def _drop_random(self, row: _Row, now: float) -> bool:
        drawn = row.tokens.draw()
        if drawn is not None:
            self._remove(row, drawn)
        self._turn_away(row, "full", now)
        return drawn is not None

    def _remove(self, row: _Row, token: bytes) -> ParkedToken:
        self._bytes -= len(token) + ENTRY_BYTES
        return row.tokens.remove(token)

    def _turn_away(self, row: _Row, outcome: str, now: float) -> None:
        """Count it, and log it once a minute: a flood would fill the log."""
        row.turned_away[outcome] += 1
        if self._reporter.counters is not None:
            self._reporter.counters.parked_turned_away(row.issuer.issuer)
        if abs(now - row.logged_at.get(outcome, float("-inf"))) >= LOG_SECONDS:
            log.error(
                "parking",
                outcome=outcome,
                issuer=row.issuer.issuer,
                parked=len(row.tokens),
                turned_away=row.turned_away.pop(outcome),
            )
            row.logged_at[outcome] = now

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Retry parked tokens, in a task for each issuer; at the end log how many are lost."""
        self._tasks = [
            asyncio.create_task(logged(partial(self._attend, row))) for row in self._rows.values()
        ]
        try:
            yield
        finally:
            await end(self._tasks)
            if len(self):
                log.error("parking", outcome="lost", parked=len(self))

    async def _attend(self, row: _Row) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS):
                    await row.due.wait()
            self._drop_old(row)
            if row.due.is_set() or row.unwritten:
                row.due.clear()
                row.unwritten = False
                for token in row.tokens:
                    if token in row.tokens:  # it may have lost its place meanwhile
                        await self._retry(row, token)
                        await asyncio.sleep(0)  # requests come first

    def _drop_old(self, row: _Row) -> None:
        """Drop tokens that have waited too long; they are in the order of arrival."""
        now = self._clock()
        while (oldest := row.tokens.oldest()) is not None:
            token, parked = oldest
            if now - parked.arrived_at <= MAX_STAY:
                return
            self._end(row, token, self._record(row, parked), "given_up")

    def _record(self, row: _Row, parked: ParkedToken) -> AttemptRecord:
        record = AttemptRecord(self._reporter, time.perf_counter(), parked.request_id)
        record.issuer = row.issuer.issuer
        return record

    async def _retry(self, row: _Row, token: bytes) -> None:
        """Run the steps of `pipeline` again, with the keys known now."""
        parked = row.tokens[token]
        record = self._record(row, parked)
        # If its issuer demands encryption, it was encrypted: only then was it parked.
        attempt = Attempt(self._providers, record, token, parked.arrived_at, decrypted=True)
        row.tokens.held = token
        try:
            attempt.parse()
            attempt.verify_parked()
            attempt.validate()
            until = asyncio.get_running_loop().time() + REQUEST_SECONDS
            written = await self._writer.write(attempt.revocations, until=until)
        except TokenRefused as error:
            self._end(row, token, record, "refused", error.reason)
        except DependencyUnavailable as error:
            if error.outage is Outage.KEYS_UNAVAILABLE:
                row.provider.keys.want()
            else:
                row.unwritten = True
        except BaseException as error:
            # A bug of ours, which would only fail again.
            fault = fault_of(error)
            log.error("logout", outcome="failed", request_id=record.request_id, exc_info=fault)
            self._end(row, token, record, "failed", Outage.INTERNAL)
        else:
            self._end(row, token, record, written)
        finally:
            row.tokens.held = None

    def _end(
        self,
        row: _Row,
        token: bytes,
        record: AttemptRecord,
        outcome: str,
        reason: Reason | Outage | None = None,
    ) -> None:
        """Free the place and log the outcome in one line, as for every token."""
        parked = self._remove(row, token)
        record.parked = self._clock() - parked.arrived_at
        if isinstance(reason, Reason):
            record.refused(reason)
        else:
            record.report(outcome, reason)
