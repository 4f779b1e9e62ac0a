"""Tokens that wait in memory for a key that can not be had now.

They were answered 503, and most providers never send again: without this, a key server that is
away for a minute loses the logouts of that minute. When the key comes, a token is judged as of
the moment when it was received, and written like any other. Nothing here survives the process.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial

from app.backchannel.endpoint import REQUEST_SECONDS, Provider
from app.backchannel.parked_tokens import ENTRY_BYTES, Parked, ParkedTokens
from app.backchannel.revocations import revocations_for
from app.background import background
from app.errors import DependencyUnavailable, Outage, Reason, TokenRefused, fault_of
from app.log import new_log
from app.publish.writer import Writer
from app.telemetry.attempt_log import AttemptRecord, Reporter
from app.tokens import logout_token, signed_jwt
from app.tokens.signed_jwt import UnverifiedJwt

log = new_log(__name__)

# Who has not come back by then is down for good, and 503 was told long ago.
LONGEST_STAY = 600.0

# Over all issuers, however many there are.
MOST_BYTES = 64 << 20

# Real ones have 600 to 2,000 bytes. A body may have eight times as many, with which a few hundred
# forgeries would fill an issuer's places.
LONGEST_TOKEN = 8 << 10

# How often tokens that could not be written are tried again, and old ones are let go.
TRY_SECONDS = 5.0

# A full parking is told this often, and not for each token of a flood.
TELL_SECONDS = 60.0


class _Row:
    """The tokens of one issuer."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.issuer = provider.issuer
        self.tokens = ParkedTokens()
        self.due = asyncio.Event()
        """A key set has arrived."""
        self.unwritten = False
        """A token with a good signature could not be written."""
        self.turned_away: Counter[str] = Counter()
        self.told_at: dict[str, float] = {}


class Parking:
    """Keeps tokens without a key, and settles them when a key set arrives.

    ``most_tokens`` and ``most_bytes`` are for each issuer; 0 turns it off. When it is full, one
    that is drawn at random loses its place (`ParkedTokens`). ``clock`` is epoch seconds.
    """

    def __init__(
        self,
        providers: Iterable[Provider],
        writer: Writer,
        *,
        most_tokens: int,
        most_bytes: int,
        teller: Reporter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows = {provider.issuer.issuer: _Row(provider) for provider in providers}
        self._writer = writer
        self._most_tokens = most_tokens
        self._most_bytes = most_bytes
        self._teller = teller or Reporter()
        self._clock = clock
        self._bytes = 0
        for row in self._rows.values():
            row.provider.keys.on_arrival(row.due.set)

    def __len__(self) -> int:
        return sum(len(row.tokens) for row in self._rows.values())

    def depths(self) -> Iterator[tuple[str, int, int, float]]:
        """Of each issuer: its name, how many are parked, their bytes, and the seconds for which the
        oldest has been here."""
        now = self._clock()
        for issuer, row in self._rows.items():
            oldest = row.tokens.oldest()
            seconds = 0.0 if oldest is None else max(0.0, now - oldest[1].arrived_at)
            yield issuer, len(row.tokens), row.tokens.bytes, seconds

    def park(
        self, token: bytes, jwt: UnverifiedJwt, issuer: str, arrived_at: float, request_id: str
    ) -> None:
        """Keep ``token``, which is ``jwt``, for the keys of ``issuer``.

        Does nothing for a token that is there already, or would be refused with any key, and
        where it is too large. The header must have been checked.
        """
        row = self._rows[issuer]
        if not self._most_tokens or not self._most_bytes or token in row.tokens:
            return
        try:
            logout_token.check_claims(jwt.unverified_claims, row.issuer, now=arrived_at)
        except TokenRefused:
            return
        if len(token) > min(LONGEST_TOKEN, self._most_bytes - ENTRY_BYTES):
            self._turn_away(row, "too_large", arrived_at)
            return
        if self._make_room(row, len(token) + ENTRY_BYTES, arrived_at):
            row.tokens.add(token, Parked(arrived_at, request_id))
            self._bytes += len(token) + ENTRY_BYTES
            row.provider.keys.want()

    def _make_room(self, row: _Row, size: int, now: float) -> bool:
        """Whether there is room for a token of this ``size``. Others may lose their places."""
        while len(row.tokens) >= self._most_tokens or row.tokens.bytes + size > self._most_bytes:
            if not self._let_one_go(row, now):
                return False
        while self._bytes + size > MOST_BYTES:
            # So that an issuer whose tokens are many never takes the places of the others.
            fullest = max(self._rows.values(), key=lambda one: one.tokens.bytes)
            if not self._let_one_go(fullest, now):
                return False
        return True

    def _let_one_go(self, row: _Row, now: float) -> bool:
        drawn = row.tokens.draw()
        if drawn is not None:
            self._remove(row, drawn)
        self._turn_away(row, "full", now)
        return drawn is not None

    def _remove(self, row: _Row, token: bytes) -> Parked:
        self._bytes -= len(token) + ENTRY_BYTES
        return row.tokens.remove(token)

    def _turn_away(self, row: _Row, outcome: str, now: float) -> None:
        """Count it, and tell it once a minute: a flood would fill the log."""
        row.turned_away[outcome] += 1
        if self._teller.tally is not None:
            self._teller.tally.parked_turned_away(row.issuer.issuer)
        if abs(now - row.told_at.get(outcome, float("-inf"))) >= TELL_SECONDS:
            log.error(
                "parking",
                outcome=outcome,
                issuer=row.issuer.issuer,
                parked=len(row.tokens),
                turned_away=row.turned_away.pop(outcome),
            )
            row.told_at[outcome] = now

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Settle what is parked, a task for each issuer; at the end tell how many remain."""
        try:
            async with background(partial(self._attend, row) for row in self._rows.values()):
                yield
        finally:
            if len(self):
                log.error("parking", outcome="lost", parked=len(self))

    async def _attend(self, row: _Row) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRY_SECONDS):
                    await row.due.wait()
            self._let_go(row)
            if row.due.is_set() or row.unwritten:
                row.due.clear()
                row.unwritten = False
                for token in row.tokens:
                    if token in row.tokens:  # it may have lost its place meanwhile
                        await self._settle(row, token)
                        await asyncio.sleep(0)  # requests come first

    def _let_go(self, row: _Row) -> None:
        """Drop what has waited for too long: from the front, for it is in order."""
        now = self._clock()
        while (oldest := row.tokens.oldest()) is not None:
            token, parked = oldest
            if now - parked.arrived_at <= LONGEST_STAY:
                return
            self._end(row, token, self._story(row, parked), "given_up")

    def _story(self, row: _Row, parked: Parked) -> AttemptRecord:
        story = AttemptRecord(self._teller, time.perf_counter(), parked.request_id)
        story.issuer = row.issuer.issuer
        return story

    async def _settle(self, row: _Row, token: bytes) -> None:
        parked = row.tokens[token]
        arrived_at, story = parked.arrived_at, self._story(row, parked)
        row.tokens.held = token
        try:
            jwt = story.jwt = signed_jwt.parse(token)
            signed = signed_jwt.verify_at_hand(
                jwt, row.issuer, row.provider.keys, arrived_at=arrived_at
            )
            judged = story.token = logout_token.judge(signed, now=arrived_at)
            story.revocations = revocations_for(judged, received_at=arrived_at)
            written = await self._writer.write(
                story.revocations,
                until=asyncio.get_running_loop().time() + REQUEST_SECONDS,
            )
        except TokenRefused as error:
            self._end(row, token, story, "refused", error.reason)
        except DependencyUnavailable as error:
            if error.outage is Outage.KEYS_UNAVAILABLE:
                row.provider.keys.want()
            else:
                row.unwritten = True
        except BaseException as error:
            # A fault of ours, which would only come again.
            fault = fault_of(error)
            log.error("logout", outcome="failed", request_id=story.request_id, exc_info=fault)
            self._end(row, token, story, "failed", Outage.INTERNAL)
        else:
            self._end(row, token, story, written)
        finally:
            row.tokens.held = None

    def _end(
        self,
        row: _Row,
        token: bytes,
        story: AttemptRecord,
        outcome: str,
        reason: Reason | Outage | None = None,
    ) -> None:
        """Give the place back, and tell the outcome in one line, as for every token."""
        parked = self._remove(row, token)
        story.parked = self._clock() - parked.arrived_at
        if isinstance(reason, Reason):
            story.refused(reason)
        else:
            story.tell(outcome, reason)
