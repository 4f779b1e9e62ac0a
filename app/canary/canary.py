"""Ends a session of its own, and measures how long the marker and the receipt take."""

import asyncio
import contextlib
import secrets
import ssl
import time
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from app.background import background
from app.canary.issuer import ISSUER, Signer
from app.config.canary import CanarySettings
from app.history.app_reader import AppReader, Unreadable, required
from app.history.proofs import parse_receipts
from app.history.streams import parse_entries
from app.log import new_log
from app.store.topology import RedisTopology, connect
from app.telemetry.canary_outcome import CanaryOutcome
from app.telemetry.metrics.definitions import CANARY_ROW, CANARY_SECONDS, CANARY_TRIES
from app.telemetry.metrics.registry import Registry
from backchannel_logout import AppKeys, AsyncListener, Event, Gap, Outcome

log = new_log(__name__)

_POLL_SECONDS = 0.02
_META_POLL_SECONDS = 0.1

# After the start, until the listeners are up and Redis was checked once.
_FIRST_PAUSE = 1.0

# Receipts of other replicas' canaries may precede ours.
_RECEIPTS = 200

# Bounds the events that are kept, including those of other replicas' canaries.
_MAX_EVENTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One session that was ended. ``at`` is when its token was sent, in epoch seconds; the other
    times are seconds since then, None for stages that were not reached."""

    at: float
    outcome: CanaryOutcome
    to_answer: float | None = None
    to_marker: float | None = None
    to_receipt: float | None = None


class Canary:
    """``url`` is where logout tokens are POSTed; ``registry`` counts the tries."""

    def __init__(
        self,
        settings: CanarySettings,
        signer: Signer,
        *,
        redis_url: str,
        url: str,
        registry: Registry,
    ) -> None:
        self._settings = settings
        self._signer = signer
        self._redis_url = redis_url
        self._url = url
        self._tries = registry.counters(CANARY_TRIES)
        self._failures_in_a_row = registry.gauge(CANARY_ROW)
        self._seconds = {
            stage: registry.histogram(CANARY_SECONDS, stage)
            for stage in ("answer", "marker", "receipt")
        }
        self._keys = AppKeys(settings.app)
        self._events: dict[str, str] = {}
        """Event ids by session."""
        self.last: Try | None = None
        self.tries = 0
        self.failures = 0

    def state(self) -> dict[str, Any]:
        """For `/readyz`: the last try and the counts, as JSON values."""
        return {
            "app": self._settings.app,
            "tries": self.tries,
            "failures": self.failures,
            "last": asdict(self.last) if self.last is not None else None,
        }

    async def keep_trying(self) -> None:
        """Try at every interval, whatever fails. Never returns."""
        link = RedisTopology(connect(self._redis_url), bounded=True)
        reading = AppReader(link)

        async def listen() -> None:
            await self._wait_for_meta(reading)
            await self._listen()

        # Plain HTTP to our own listener needs neither proxies nor certificates.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            async with (
                httpx.AsyncClient(trust_env=False, verify=context) as http,
                background([listen]),
            ):
                await asyncio.sleep(_FIRST_PAUSE)
                while True:
                    self._record(await self._try(http, reading))
                    await asyncio.sleep(self._settings.interval)
        finally:
            await link.aclose()

    def _record(self, done: Try) -> None:
        self.last = done
        self.tries += 1
        self._tries[(done.outcome.value,)].inc()
        if done.outcome is CanaryOutcome.OK:
            self._failures_in_a_row.set(0)
        else:
            self.failures += 1
            self._failures_in_a_row.inc()
            log.warning("canary", outcome=done.outcome.value)
        for stage, histogram in self._seconds.items():
            if (seconds := getattr(done, f"to_{stage}")) is not None:
                histogram.observe(seconds)

    async def _wait_for_meta(self, reading: AppReader) -> None:
        """Wait for the app's ``meta``. At the first start the receiver has not written it yet, and
        a listener would report an app that is not served."""
        while True:
            with contextlib.suppress(Unreadable):
                (age,) = await reading.query_app(
                    self._keys.app, [("HGET", self._keys.meta, "max_session_age")]
                )
                if required(age) is not None:
                    return
            await asyncio.sleep(_META_POLL_SECONDS)

    async def _listen(self) -> None:
        """Listen as a relying app does, with receipts."""
        app = self._settings.app
        async with AsyncListener(self._redis_url, app=app, mode="broadcast") as listener:
            async for item in listener:
                if isinstance(item, Gap):
                    continue
                self._remember(item)

    def _remember(self, event: Event) -> None:
        if event.sid is not None and event.id is not None:
            self._events[event.sid] = event.id
            if len(self._events) > _MAX_EVENTS:
                del self._events[next(iter(self._events))]

    async def _try(self, http: httpx.AsyncClient, reading: AppReader) -> Try:
        sid, at, began = secrets.token_hex(16), time.time(), time.monotonic()
        within = self._settings.within
        form = {"logout_token": self._signer.token(sid, at)}
        try:
            answer = await http.post(self._url, data=form, timeout=within)
        except httpx.HTTPError:
            return Try(at=at, outcome=CanaryOutcome.UNREACHABLE)
        to_answer = time.monotonic() - began
        if answer.status_code != 200:
            outcome = (
                CanaryOutcome.UNAVAILABLE if answer.status_code == 503 else CanaryOutcome.REFUSED
            )
            return Try(at=at, outcome=outcome, to_answer=to_answer)
        marker = receipt = None
        while receipt is None and time.monotonic() < began + within:
            has_marker, has_receipt = await self._check(reading, sid)
            now = time.monotonic() - began
            marker = now if marker is None and has_marker else marker
            receipt = now if has_receipt else None
            if receipt is None:
                await asyncio.sleep(_POLL_SECONDS)
        outcome = CanaryOutcome.NO_MARKER if marker is None else CanaryOutcome.NO_RECEIPT
        return Try(
            at=at,
            outcome=CanaryOutcome.OK if marker is not None and receipt is not None else outcome,
            to_answer=to_answer,
            to_marker=marker,
            to_receipt=receipt,
        )

    async def _check(self, reading: AppReader, sid: str) -> tuple[bool, bool]:
        """Whether the marker and the receipt are in Redis; False while it does not answer."""
        keys, event = self._keys, self._events.get(sid)
        try:
            marker, found = await reading.query_app(
                keys.app,
                [
                    ("GET", keys.sid(ISSUER, sid)),
                    ("XREVRANGE", keys.receipts, "+", "-", "COUNT", _RECEIPTS),
                ],
            )
            has_marker = required(marker) is not None
            receipts = parse_receipts(parse_entries(required(found)))
        except Unreadable:
            return False, False
        done = any(
            receipt.event == event and receipt.outcome is Outcome.DONE for receipt in receipts
        )
        return has_marker, event is not None and done
