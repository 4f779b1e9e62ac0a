"""Tokens that wait in memory for a key that can not be had now.

They were answered 503, and most providers never send again: without this, a key server that is
away for a minute loses the logouts of that minute. When the key comes, a token is judged as of
the moment when it was received, and written like any other. Nothing here survives the process.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial

from app.errors import DependencyUnavailable, Outage, TokenRefused
from app.inbound.backchannel import REQUEST_SECONDS, Provider
from app.inbound.revocations import revocations_for
from app.publish.writer import Writer, Written
from app.tasks import background
from app.tokens import logout_token, signed_jwt
from app.tokens.signed_jwt import UnverifiedJwt

log = logging.getLogger(__name__)

# Who has not come back by then is down for good, and 503 was told long ago.
LONGEST_STAY = 600.0

# Over all issuers, however many there are.
MOST_BYTES = 64 << 20

# What an entry takes beside the token's own bytes: object heads, the time, a place in the table.
ENTRY_BYTES = 256

# How often tokens that could not be written are tried again, and old ones are let go.
TRY_SECONDS = 5.0

# A full parking is told this often, and not for each token of a flood.
TELL_SECONDS = 60.0


class _Row:
    """The tokens of one issuer, in the order of their arrival."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.issuer = provider.issuer
        self.tokens: dict[bytes, float] = {}
        """When each arrived, in epoch seconds. Only the bytes: what was parsed is larger."""
        self.bytes = 0
        self.due = asyncio.Event()
        """A key set has arrived."""
        self.unwritten = False
        """A token with a good signature could not be written."""
        self.turned_away = 0
        self.told_at = float("-inf")


class Parking:
    """Keeps tokens without a key, and settles them when a key set arrives.

    ``most_tokens`` and ``most_bytes`` are for each issuer; 0 turns it off. When it is full,
    who came first keeps the place. ``clock`` is epoch seconds.
    """

    def __init__(
        self,
        providers: Iterable[Provider],
        writer: Writer,
        *,
        most_tokens: int,
        most_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows = {provider.issuer.issuer: _Row(provider) for provider in providers}
        self._writer = writer
        self._most_tokens = most_tokens
        self._most_bytes = most_bytes
        self._clock = clock
        self._bytes = 0
        for row in self._rows.values():
            row.provider.keys.on_arrival(row.due.set)

    def __len__(self) -> int:
        return sum(len(row.tokens) for row in self._rows.values())

    def park(self, token: bytes, jwt: UnverifiedJwt, issuer: str, arrived_at: float) -> None:
        """Keep ``token``, which is ``jwt``, for the keys of ``issuer``.

        Does nothing for a token that is there already, or would be refused with any key, and
        where there is no room. The header must have been checked.
        """
        row = self._rows[issuer]
        if not self._most_tokens or not self._most_bytes or token in row.tokens:
            return
        try:
            logout_token.check_claims(jwt.unverified_claims, row.issuer, now=arrived_at)
        except TokenRefused:
            return
        size = len(token) + ENTRY_BYTES
        if (
            len(row.tokens) >= self._most_tokens
            or row.bytes + size > self._most_bytes
            or self._bytes + size > MOST_BYTES
        ):
            self._tell_full(row, arrived_at)
            return
        row.tokens[token] = arrived_at
        row.bytes += size
        self._bytes += size
        row.provider.keys.want()

    def _tell_full(self, row: _Row, now: float) -> None:
        row.turned_away += 1
        if abs(now - row.told_at) >= TELL_SECONDS:
            log.error(
                "parking issuer=%s outcome=full parked=%d turned_away=%d",
                row.issuer.issuer,
                len(row.tokens),
                row.turned_away,
            )
            row.told_at, row.turned_away = now, 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Settle what is parked, a task for each issuer; at the end tell how many remain."""
        try:
            async with background(partial(self._attend, row) for row in self._rows.values()):
                yield
        finally:
            if len(self):
                log.error("parking outcome=lost parked=%d", len(self))

    async def _attend(self, row: _Row) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRY_SECONDS):
                    await row.due.wait()
            self._let_go(row)
            if row.due.is_set() or row.unwritten:
                row.due.clear()
                row.unwritten = False
                for token, arrived_at in list(row.tokens.items()):
                    await self._settle(row, token, arrived_at)
                    await asyncio.sleep(0)  # requests come first

    def _let_go(self, row: _Row) -> None:
        """Drop what has waited for too long: from the front, for it is in order."""
        now = self._clock()
        while row.tokens:
            token, arrived_at = next(iter(row.tokens.items()))
            if now - arrived_at <= LONGEST_STAY:
                return
            self._end(row, token, "given_up")

    async def _settle(self, row: _Row, token: bytes, arrived_at: float) -> None:
        clients: tuple[str, ...] = ()
        try:
            jwt = signed_jwt.parse(token)
            signed = signed_jwt.verify_at_hand(
                jwt, row.issuer, row.provider.keys, arrived_at=arrived_at
            )
            judged = logout_token.judge(signed, now=arrived_at)
            clients = judged.client_ids
            written = await self._writer.write(
                revocations_for(judged, received_at=arrived_at),
                until=asyncio.get_running_loop().time() + REQUEST_SECONDS,
            )
        except TokenRefused as error:
            self._end(row, token, "refused", str(error))
        except DependencyUnavailable as error:
            if error.outage is Outage.KEYS_UNAVAILABLE:
                row.provider.keys.want()
            else:
                row.unwritten = True
        except Exception:
            # A fault of ours, which would only come again.
            log.exception("logout outcome=failed error=internal parked=yes")
            self._end(row, token, "failed", Outage.INTERNAL)
        else:
            self._end(row, token, written, clients=clients)

    def _end(
        self,
        row: _Row,
        token: bytes,
        outcome: str,
        reason: str = "-",
        clients: tuple[str, ...] = (),
    ) -> None:
        """Give the place back, and tell the outcome in one line, as for every token."""
        arrived_at = row.tokens.pop(token)
        size = len(token) + ENTRY_BYTES
        row.bytes -= size
        self._bytes -= size
        log.log(
            logging.INFO if outcome in set(Written) else logging.WARNING,
            "logout outcome=%s reason=%s issuer=%s clients=%s parked=%.1fs",
            outcome,
            reason,
            row.issuer.issuer,
            ",".join(clients) or "-",
            self._clock() - arrived_at,
        )
