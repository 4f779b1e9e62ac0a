"""What Redis knows of the relying apps and of the providers' last logouts, read now and then.

Beside the tokens' path and beside `/metrics`, which shows what was read last: a Redis that hangs
costs neither of them anything. Reads alone, bounded in number and in time.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from app.config.model import Settings
from app.log import new_log
from app.revocation import keys_of
from app.store.app_sizes import BEYOND_ANSWER, COMMANDS, size_commands, sizes_of
from app.store.errors import EXCHANGE_FAULTS, fault_of
from app.store.topology import REDIS_SECONDS, RedisTopology
from app.telemetry.metrics.counters import Counters
from app.telemetry.metrics.quiet_periods import QuietPeriods
from backchannel_logout.contract.readers import Reader, ReaderKind, is_active
from backchannel_logout.contract.receipts import Receipt
from backchannel_logout.redis.internals import AnswerTooLarge

log = new_log(__name__)

READ_SECONDS = 5.0
"""The pause between two readings; Prometheus asks every 15 to 60 s."""

OLD_SECONDS = 60.0
"""What was read longer ago is not shown any more."""

# In one round trip, each of them a millisecond or less of the event loop's time: a request that
# comes meanwhile waits for it.
_APPS_AT_ONCE = 5
_PAGE = 50
_REPORTS_AT_ONCE = 100

# Of one stream in one reading. More than that since the last one are busy enough.
_ENTRIES = 500
_RECEIPTS = 2000

# How much of the stream's past is read at the start, for what is usual.
_PAST = 5500

# Groups of one app, of which each is looked at.
_GROUPS = 20

# For how long an app is left alone of which an answer was too large although its sizes looked well.
_TOO_LARGE_HOLDS = 60.0

_PROVIDERS = b"backchannel-logout"

_Entry = tuple[bytes, Mapping[Any, Any]]
_Page = Sequence[_Entry]


@dataclass(slots=True)
class AppReading:
    """One app. None: Redis does not say. ``at`` is epoch seconds; ``beyond``: what the app has
    written is too large to be read."""

    at: float | None = None
    events: int | None = None
    readers: Mapping[ReaderKind, int] = field(default_factory=dict)
    last_report: float | None = None
    lag: int | None = None
    pending: int | None = None
    dead_letters: int | None = None
    last_event: bytes | None = None
    last_receipt: bytes | None = None
    written_bytes: int | None = None
    events_bytes: int | None = None
    beyond: str | None = None
    beyond_until: float = 0.0


class Readings:
    """`apps` by name, and `silence` by issuer."""

    def __init__(
        self,
        settings: Settings,
        link: RedisTopology,
        counters: Counters,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._link = link
        self._counters = counters
        self._clock = clock
        self.apps = {one.app: AppReading() for issuer in settings.issuers for one in issuer.clients}
        self.silence = {issuer.issuer: QuietPeriods() for issuer in settings.issuers}
        self._told: set[tuple[str, str, str | None]] = set()

    async def keep_reading(self) -> None:
        """Read every `READ_SECONDS`. Never returns."""
        while True:
            try:
                await self.read()
            except Exception:
                log.exception("metrics", outcome="failed")
            await asyncio.sleep(READ_SECONDS)

    async def read(self) -> None:
        """One reading of every app; what can not be had keeps its age."""
        heard: list[tuple[float, bytes]] = []
        for server, apps in (await self._by_server()).items():
            for start in range(0, len(apps), _APPS_AT_ONCE):
                some = apps[start : start + _APPS_AT_ONCE]
                try:
                    await self._read_some(server, some, heard)
                except EXCHANGE_FAULTS as error:
                    self._tell("failed", str(fault_of(error)))
                    break
        # Several apps may have logouts of one issuer.
        for at, name in sorted(heard):
            if (silence := self.silence.get(name.decode("utf-8", "replace"))) is not None:
                silence.heard(at)

    async def _by_server(self) -> dict[Redis, list[str]]:
        found: dict[Redis, list[str]] = {}
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                for app in self.apps:
                    found.setdefault(await self._link.primary(app), []).append(app)
        except EXCHANGE_FAULTS as error:
            self._tell("failed", str(fault_of(error)))
        return found

    async def _read_some(
        self, server: Redis, apps: Sequence[str], heard: list[tuple[float, bytes]]
    ) -> None:
        """What an app writes is read if it is small enough; of an app that writes too much only
        what the receivers have written is."""
        try:
            written = await self._small_enough(server, apps)
            answers = iter(await self._asked(server, apps, written))
        except AnswerTooLarge:
            # Which of them it is shows where each is asked for alone.
            for app in apps if len(apps) > 1 else ():
                await self._read_some(server, [app], heard)
            if len(apps) == 1:
                self._set_beyond(apps[0], BEYOND_ANSWER, hold=_TOO_LARGE_HOLDS)
            return
        own = {app: [next(answers) for _ in range(3)] for app in apps}
        theirs = {app: [next(answers) for _ in range(3)] for app in written}
        for app in apps:
            self._tell_refused(app, [*own[app], *theirs.get(app, ())])
            events, dead, entries = map(_unless_refused, own[app])
            groups, readers, receipts = map(_unless_refused, theirs.get(app, (None,) * 3))
            reading = self.apps[app]
            if app in theirs:
                self._set_beyond(app, None)
            else:
                reading.readers, reading.last_report = {}, None
            await self._take_readers(reading, readers)
            await self._take_receipts(server, app, receipts)
            if entries:
                await self._take_events(server, app, entries, heard)
            reading.events, reading.dead_letters = events, dead
            await self._take_groups(server, app, groups)
            reading.at = self._clock()

    async def _asked(self, server: Redis, apps: Sequence[str], written: Sequence[str]) -> list[Any]:
        """Three answers for each of ``apps``, then three for each of ``written``."""
        pipeline = server.pipeline(transaction=False)
        for app in apps:
            keys, reading = keys_of(app), self.apps[app]
            pipeline.xlen(keys.events)
            pipeline.xlen(keys.dead_letters)
            _newer(pipeline, keys.events, reading.last_event, _PAGE)
        for app in written:
            keys, reading = keys_of(app), self.apps[app]
            pipeline.xinfo_groups(keys.events)
            pipeline.hgetall(keys.readers)
            most = 1 if reading.last_receipt is None else _PAGE
            _newer(pipeline, keys.receipts, reading.last_receipt, most)
        async with asyncio.timeout(REDIS_SECONDS):
            return await pipeline.execute(raise_on_error=False)

    async def _small_enough(self, server: Redis, apps: Sequence[str]) -> list[str]:
        """Those that have not written too much; without those that are left alone for a while."""
        now = time.monotonic()
        asked = [app for app in apps if self.apps[app].beyond_until <= now]
        pipeline = server.pipeline(transaction=False)
        for app in asked:
            for command in size_commands(keys_of(app)):
                pipeline.execute_command(*command)
        async with asyncio.timeout(REDIS_SECONDS):
            answers = await pipeline.execute(raise_on_error=False)
        found = []
        for app, own in zip(asked, zip(*[iter(answers)] * COMMANDS, strict=True), strict=True):
            reading, sizes = self.apps[app], sizes_of(own)
            reading.written_bytes, reading.events_bytes = sizes.written, sizes.events
            if sizes.beyond is None:
                found.append(app)
            else:
                self._set_beyond(app, sizes.beyond)
        return found

    def _set_beyond(self, app: str, beyond: str | None, *, hold: float = 0.0) -> None:
        """Told once, and once more where it is over."""
        reading = self.apps[app]
        if (beyond is None) != (reading.beyond is None):
            if beyond is not None:
                log.warning("app", outcome="not_read", app=app, error=beyond)
            else:
                log.info("app", outcome="read_again", app=app)
        reading.beyond, reading.beyond_until = beyond, time.monotonic() + hold

    async def _take_events(
        self, server: Redis, app: str, first: _Page, heard: list[tuple[float, bytes]]
    ) -> None:
        reading = self.apps[app]
        last, reading.last_event = reading.last_event, first[0][0]
        most = _PAST if last is None else _ENTRIES
        async for page in _pages(server, keys_of(app).events, first, last, most):
            heard += map(_heard, filter(_is_providers, page))

    async def _take_readers(self, reading: AppReading, found: Mapping[bytes, bytes] | None) -> None:
        if found is None:
            return
        now, last = self._clock(), None
        counts = dict.fromkeys(ReaderKind, 0)
        del counts[ReaderKind.ENDED]  # nobody that runs
        for number, (name, text) in enumerate(found.items(), 1):
            if number % _REPORTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            reader = Reader.from_json(name, text)
            if reader is None:
                continue
            last = max(last or 0.0, min(reader.at, now))  # their clocks are theirs
            if reader.kind in counts and is_active(reader, now):
                counts[reader.kind] += 1
        reading.readers, reading.last_report = counts, last

    async def _take_receipts(self, server: Redis, app: str, first: _Page | None) -> None:
        """What was there before the first reading is not counted."""
        if first is None:
            return
        reading = self.apps[app]
        last = reading.last_receipt
        # Before they are counted: what a fault leaves out is never counted twice.
        reading.last_receipt = first[0][0] if first else last or b"0-0"
        if last is None:
            return
        async for page in _pages(server, keys_of(app).receipts, first, last, _RECEIPTS):
            for _, fields in page:
                if (receipt := Receipt.from_fields(fields)) is not None:
                    self._counters.receipt(app, receipt)

    async def _take_groups(self, server: Redis, app: str, groups: Any) -> None:
        reading = self.apps[app]
        reading.lag = reading.pending = None
        if not groups:
            return
        reading.pending = sum(group["pending"] for group in groups)
        reading.lag = 0
        for group in groups[:_GROUPS]:
            lag = group.get("lag")
            if lag is None:  # before Redis 7, and after entries were deleted, it can not say
                after = b"(" + group["last-delivered-id"]
                async with asyncio.timeout(REDIS_SECONDS):
                    left: Any = await server.xrange(keys_of(app).events, after, "+", count=_ENTRIES)
                lag = len(left)
            reading.lag = max(reading.lag, lag)

    def _tell_refused(self, app: str, answers: Sequence[object]) -> None:
        if any(isinstance(one, NoPermissionError) for one in answers):
            self._tell("refused", "NOPERM", app)

    def _tell(self, outcome: str, error: str, app: str | None = None) -> None:
        """Once: what stays away is seen at its age."""
        if (outcome, error, app) not in self._told:
            self._told.add((outcome, error, app))
            log.warning("metrics", outcome=outcome, error=error, app=app)


def _unless_refused(answer: Any) -> Any:
    return None if isinstance(answer, RedisError) else answer


def _newer(pipeline: Any, key: str, last: bytes | None, most: int) -> None:
    """What came after ``last``, newest first."""
    pipeline.xrevrange(key, "+", _after(last), count=most)


def _after(last: bytes | None) -> bytes:
    return b"-" if last is None else b"(" + last


async def _pages(
    server: Redis, key: str, first: _Page, last: bytes | None, most: int
) -> AsyncIterator[_Page]:
    """``first``, and the pages between it and ``last``, newest first; ``most`` entries in all."""
    page, count = first, 0
    while page:
        yield page
        count += len(page)
        if len(page) < _PAGE or count >= most:
            return
        async with asyncio.timeout(REDIS_SECONDS):
            answer: Any = await server.xrevrange(key, b"(" + page[-1][0], _after(last), count=_PAGE)
        page = answer


def _is_providers(entry: _Entry) -> bool:
    return entry[1].get(b"source") == _PROVIDERS and b"iss" in entry[1]


def _heard(entry: _Entry) -> tuple[float, bytes]:
    """When it was written, by Redis' clock, and whose it is."""
    entry_id, fields = entry
    return int(entry_id.partition(b"-")[0]) / 1000, fields[b"iss"]
