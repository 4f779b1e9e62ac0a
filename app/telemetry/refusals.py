"""Tokens that were refused, in a capped stream of Redis: `bcl:v1:refused`.

"The provider says delivered, the app is still signed in": here an operator sees what came instead
of a valid token. An entry says the reason, the rule that failed, and of the token what helps to
find the cause. ``verified`` is ``1`` where the signature held; elsewhere all of it is what anybody
may have written. Users and sessions are keyed hashes. A token that is answered 503 for want of the
issuer's keys is noted as well, with that reason: else nobody could see that it waits.

It never delays an answer, and never fails one: what is refused is put in line, and a task writes.
Where Redis is away for longer than the line, entries are lost, and counted. Where the answer to a
write was lost, entries come twice; ``request_id`` tells.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from app.config.model import Settings
from app.errors import OUTAGE_SENTENCES, SENTENCES, Outage, Reason
from app.log import new_log
from app.store.errors import EXCHANGE_FAULTS, fault_of
from app.store.topology import REDIS_SECONDS
from app.telemetry.fair_quota import FairQuota
from app.telemetry.hashes import KeyedHash
from app.telemetry.sanitize import audiences, number, text
from app.tokens.signed_jwt import UnverifiedJwt
from backchannel_logout.redis.connection import AsyncClient

log = new_log(__name__)

REFUSED = "bcl:v1:refused"
"""The stream's key."""

LARGEST_ENTRY = 2048
"""Bytes of all fields and values."""

# What waits for Redis, in each process: 2 MiB at the most.
MOST_WAITING = 1000

# Entries of one round trip, and how long they are waited for.
_BATCH = 100
_GATHER_SECONDS = 0.25

# After a write that failed, and again and again: a user without the right to this key stays so.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0

# How often entries beyond `event_retention` are removed.
_TRIM_SECONDS = 60.0

# From here on in the order of the checks the signature has been found good.
PROVEN = frozenset(list(Reason)[list(Reason).index(Reason.SIGNATURE) + 1 :])

# How much of the stream one process may fill in a time of `event_retention`, whoever sends what:
# refusals of tokens that an issuer has signed matter most, and what names no issuer of ours least.
# Three processes together leave a quarter of it to the first.
SHARES = {"proven": 1 / 2, "claimed": 1 / 6, "unknown": 1 / 12}


def share_of(issuer: str | None, *, verified: bool) -> str:
    """Which of `SHARES` a refusal belongs to: its signature was good, it names an issuer of the
    settings, or neither."""
    if verified:
        return "proven"
    return "unknown" if issuer is None else "claimed"


class Refusal(NamedTuple):
    """A token that was refused, or answered 503 for want of the issuer's keys. ``at`` is epoch
    seconds."""

    at: float
    reason: Reason | Outage
    request_id: str
    issuer: str | None
    """The configured issuer that it names, if it does."""
    jwt: UnverifiedJwt | None
    """As far as it could be taken apart."""

    @property
    def verified(self) -> bool:
        """Whether the issuer had signed it."""
        return self.reason in PROVEN


def entry_of(refusal: Refusal, hashed: KeyedHash | None) -> dict[str, str]:
    """The fields of the stream's entry, `LARGEST_ENTRY` at the most; what is unknown is absent."""
    header, claims = ({}, {}) if refusal.jwt is None else refusal.jwt[:2]
    fields: dict[str, str | None] = {
        "at": f"{refusal.at:.3f}",
        "reason": refusal.reason.value,
        "rule": SENTENCES[refusal.reason]
        if isinstance(refusal.reason, Reason)
        else OUTAGE_SENTENCES[refusal.reason],
        "verified": "1" if refusal.verified else None,
        "request_id": refusal.request_id,
        "iss": text(claims, "iss", 400),
        "aud": audiences(claims, 600),
        "alg": text(header, "alg", 40),
        "typ": text(header, "typ", 60),
        "kid": text(header, "kid", 200),
        "iat": number(claims, "iat"),
        "exp": number(claims, "exp"),
    }
    if hashed is not None:
        for name in ("jti", "sid", "sub"):
            value = claims.get(name)
            fields[f"{name}_hash"] = hashed(value) if isinstance(value, str) else None
    return {name: value for name, value in fields.items() if value is not None}


class Refusals:
    """What is to be written, and the task that writes. ``clock`` is epoch seconds."""

    def __init__(
        self,
        settings: Settings,
        client: AsyncClient,
        *,
        on_kept: Callable[[int], None] = lambda _: None,
        on_left_out: Callable[[int], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_kept = on_kept
        self._on_left_out = on_left_out
        self._commands: Any = client
        self._max_len = int(settings.refused_max_len)
        self._max_age_ms = int(settings.event_retention * 1000)
        self._clock = clock
        self._monotonic = monotonic
        # A seventh: after a burst, what comes evenly for the rest fills seven times as much.
        seconds = settings.event_retention / 7
        own = self._max_len / 8
        self._fair = {
            kind: FairQuota(own * share, seconds, monotonic) for kind, share in SHARES.items()
        }
        self._waiting: deque[dict[str, str]] = deque()
        self._arrived = asyncio.Event()
        self._trimmed_at = float("-inf")
        self.written = 0
        """Entries that Redis has taken, since the start of the process."""
        self.dropped = 0
        """Refusals that are not in the stream: too many of their kind, or Redis was away."""

    def add(self, refusal: Refusal, hashed: KeyedHash | None) -> None:
        """Put it in line, if its kind is within its share. Never waits, never fails."""
        share = share_of(refusal.issuer, verified=refusal.verified)
        fair = self._fair[share].takes((refusal.reason, refusal.issuer))
        if not fair or len(self._waiting) >= MOST_WAITING:
            self._leave_out(1)
            return
        try:
            self._waiting.append(entry_of(refusal, hashed))
        except Exception:
            # What came in is anybody's: whatever it does here, it is refused all the same.
            self._leave_out(1)
            log.exception("refusals", outcome="failed", error="internal")
        else:
            self._arrived.set()

    async def keep_writing(self) -> None:
        """Write what waits, a batch at a time; at the end what is left, once. Never returns."""
        try:
            pause = _FIRST_PAUSE
            while True:
                await self._arrived.wait()
                await asyncio.sleep(_GATHER_SECONDS)
                if await self.write():
                    pause = _FIRST_PAUSE
                else:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            if self._waiting:
                await self.write()
            self._leave_out(len(self._waiting))

    async def write(self) -> bool:
        """Write one batch. False where Redis has not taken it: then it still waits."""
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        if not self._waiting:
            self._arrived.clear()
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                await self._send(batch)
        except EXCHANGE_FAULTS as error:
            log.warning("refusals", outcome="failed", error=str(fault_of(error)))
            self._put_back(batch)
            return False
        except asyncio.CancelledError:
            self._put_back(batch)
            raise
        except Exception:
            # A fault of ours here must not end the task, nor come again with the same entries.
            log.exception("refusals", outcome="failed", error="internal")
            self._leave_out(len(batch))
            return False
        self.written += len(batch)
        self._on_kept(len(batch))
        return True

    def _leave_out(self, many: int) -> None:
        self.dropped += many
        self._on_left_out(many)

    def _put_back(self, batch: list[dict[str, str]]) -> None:
        self._waiting.extendleft(reversed(batch))
        self._arrived.set()

    async def _send(self, batch: list[dict[str, str]]) -> None:
        pipeline: Any = self._commands.pipeline(transaction=False)
        for entry in batch:
            pipeline.xadd(REFUSED, entry, maxlen=self._max_len, approximate=True)
        now = self._monotonic()
        trims = now - self._trimmed_at >= _TRIM_SECONDS
        if trims:
            oldest = int(self._clock() * 1000) - self._max_age_ms
            pipeline.xtrim(REFUSED, minid=f"{max(0, oldest)}-0", approximate=True)
        await pipeline.execute()
        if trims:
            self._trimmed_at = now
