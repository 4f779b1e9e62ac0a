"""Writes refused tokens to a capped stream of Redis, `bcl:v1:refused`.

When a provider reports a delivery and the app still shows a session, operators see here what
arrived instead of a valid token. An entry has the reason, the rule that failed, and the parts of
the token which help to find the cause. ``verified`` is ``1`` where the signature is valid; anyone
may have written the contents of other entries. Users and sessions are keyed hashes. A token that
gets 503 because its issuer's keys are missing has an entry too.

Writing never delays a response, and its faults never affect one: refusals are queued, and a task
writes them. If Redis is away for longer than the queue lasts, entries are lost and counted. If the
reply to a write is lost, entries occur twice, with the same ``request_id``.
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
from app.store.operator_streams import REFUSED
from app.store.topology import REDIS_SECONDS
from app.telemetry.fair_quota import FairQuota
from app.telemetry.hashes import KeyedHash
from app.telemetry.sanitize import audiences, number, text
from app.tokens.signed_jwt import UnverifiedJwt
from backchannel_logout.redis.connection import AsyncClient

log = new_log(__name__)

MAX_ENTRY_BYTES = 2048
"""Bytes of all fields and values."""

# Bounds the queue of a process to 2 MiB.
MAX_QUEUED = 1000

# Entries per round trip, and how long they are collected.
_BATCH = 100
_GATHER_SECONDS = 0.25

# Between failed writes. The limit is long because a missing ACL rule stays missing.
_FIRST_PAUSE, _MAX_PAUSE = 1.0, 60.0

# How often entries beyond `event_retention` are removed.
_TRIM_SECONDS = 60.0

# Reasons that are found after the signature was verified.
PROVEN = frozenset(list(Reason)[list(Reason).index(Reason.SIGNATURE) + 1 :])

# How much of the stream one process may fill within `event_retention`, by kind of token. Validly
# signed tokens matter most, and tokens that name no configured issuer least. Three processes
# together leave a quarter of the stream to the first kind.
SHARES = {"proven": 1 / 2, "claimed": 1 / 6, "unknown": 1 / 12}


def share_of(issuer: str | None, *, verified: bool) -> str:
    """The name in `SHARES`: the signature is valid, or the token names a configured issuer, or
    neither."""
    if verified:
        return "proven"
    return "unknown" if issuer is None else "claimed"


class Refusal(NamedTuple):
    """A token that was refused, or got 503 because keys are missing. ``at`` is epoch seconds."""

    at: float
    reason: Reason | Outage
    request_id: str
    issuer: str | None
    """The configured issuer that the token names, if any."""
    jwt: UnverifiedJwt | None
    """As far as the token could be parsed."""

    @property
    def verified(self) -> bool:
        """Whether the signature is valid."""
        return self.reason in PROVEN


def entry_of(refusal: Refusal, keyed_hash: KeyedHash | None) -> dict[str, str]:
    """The fields of the stream entry, at most `MAX_ENTRY_BYTES`; unknown ones are absent."""
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
    if keyed_hash is not None:
        for name in ("jti", "sid", "sub"):
            value = claims.get(name)
            fields[f"{name}_hash"] = keyed_hash(value) if isinstance(value, str) else None
    return {name: value for name, value in fields.items() if value is not None}


class Refusals:
    """The queue, and the task that writes it. ``clock`` is epoch seconds.

    ``on_kept`` counts entries that Redis has stored; ``on_left_out`` counts refusals without an
    entry: too many of their kind, or Redis was away.
    """

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
        # A seventh: after a burst, a steady flow fills seven times as much as the burst.
        seconds = settings.event_retention / 7
        burst = self._max_len / 8
        self._fair = {
            kind: FairQuota(burst * share, seconds, monotonic) for kind, share in SHARES.items()
        }
        self._queue: deque[dict[str, str]] = deque()
        self._arrived = asyncio.Event()
        self._trimmed_at = float("-inf")

    def add(self, refusal: Refusal, keyed_hash: KeyedHash | None) -> None:
        """Queue the refusal if its kind is within its share. Never waits, never fails."""
        share = share_of(refusal.issuer, verified=refusal.verified)
        fair = self._fair[share].takes((refusal.reason, refusal.issuer))
        if not fair or len(self._queue) >= MAX_QUEUED:
            self._on_left_out(1)
            return
        try:
            self._queue.append(entry_of(refusal, keyed_hash))
        except Exception:
            # The token is untrusted; an error here must not change its refusal.
            self._on_left_out(1)
            log.exception("refusals", outcome="failed", error="internal")
        else:
            self._arrived.set()

    async def keep_writing(self) -> None:
        """Write the queue in batches, and what is left at the end. Never returns."""
        try:
            pause = _FIRST_PAUSE
            while True:
                await self._arrived.wait()
                await asyncio.sleep(_GATHER_SECONDS)
                if await self.write():
                    pause = _FIRST_PAUSE
                else:
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _MAX_PAUSE)
        finally:
            if self._queue:
                await self.write()
            self._on_left_out(len(self._queue))

    async def write(self) -> bool:
        """Write one batch. Returns False, and keeps the batch, if Redis does not store it."""
        batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
        if not self._queue:
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
            # A bug must neither end the task nor repeat with the same entries.
            log.exception("refusals", outcome="failed", error="internal")
            self._on_left_out(len(batch))
            return False
        self._on_kept(len(batch))
        return True

    def _put_back(self, batch: list[dict[str, str]]) -> None:
        self._queue.extendleft(reversed(batch))
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
