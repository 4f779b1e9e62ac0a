"""Reads from Redis what it knows of the relying apps and of the providers' last logouts.

Runs in the background: `/metrics` shows the last reading, so a Redis that hangs delays neither a
scrape nor a token. Only reads, with bounded answers and times.

One receiver reads for all, through a lease. Of a large fleet it reads some apps at a time, in turn,
and those with new events first: the cost of an idle receiver must not grow with apps times pods.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from app.config.model import Settings
from app.log import new_log
from app.revocation import keys_of
from app.store.app_sizes import (
    BEYOND_ANSWER,
    COMMANDS,
    STREAM,
    Command,
    size_commands,
    sizes_of,
)
from app.store.command import packed
from app.store.errors import EXCHANGE_FAULTS, fault_of
from app.store.lease import Lease
from app.store.replies import entries_of, pairs_of
from app.store.topology import REDIS_SECONDS, RedisTopology
from app.telemetry.metrics.app_reading import AppReading
from app.telemetry.metrics.counters import Counters
from app.telemetry.metrics.quiet_periods import QuietPeriods
from app.telemetry.metrics.turns import Turns
from backchannel_logout.contract.readers import Reader, ReaderKind, is_active
from backchannel_logout.contract.receipts import Receipt
from backchannel_logout.redis.internals import AnswerTooLarge
from backchannel_logout.redis.pipeline import reused_pipelines

log = new_log(__name__)

READ_SECONDS = 5.0
"""The pause between two readings; Prometheus scrapes every 15 to 60 s."""

# How often the lease is renewed.
_RENEW_SECONDS = 1.0

# Readings are not shown when they are older than this, or than two rounds.
_OLD_SECONDS = 60.0

# Per round trip. Parsing its answers takes at most a millisecond, for which requests wait.
_APPS_AT_ONCE = 5
_EMPTY_AT_ONCE = 50
_PAGE = 50
_REPORTS_AT_ONCE = 100

# Per stream and reading. More entries than that are not needed to see that an app is busy.
_ENTRIES = 500
_RECEIPTS = 2000

# How many past events are read at the start, for the usual gaps.
_PAST = 5500

# Groups of one app that are read.
_GROUPS = 20

# How long an app is skipped whose answer was too large although its sizes were within limits.
_TOO_LARGE_HOLDS = 60.0

_PROVIDERS = b"backchannel-logout"

_Entry = tuple[bytes, Mapping[Any, Any]]
_Page = Sequence[_Entry]


class Readings:
    """`apps` by name, and `quiet_periods` by issuer: empty while another receiver reads."""

    def __init__(self, settings: Settings, link: RedisTopology, counters: Counters) -> None:
        self._link = link
        self._counters = counters
        self.lease = Lease(link.client)
        self.apps: dict[str, AppReading] = {}
        self.quiet_periods: dict[str, QuietPeriods] = {}
        self._settings: Settings | None = settings
        self._adopt()
        self._logged: set[tuple[str, str, str | None]] = set()

    def serve(self, settings: Settings) -> None:
        """Read the apps of these settings from the next reading on."""
        self._settings = settings

    def _adopt(self) -> None:
        settings, self._settings = self._settings, None
        if settings is None:
            return
        apps = {client.app for issuer in settings.issuers for client in issuer.clients}
        issuers = {issuer.issuer for issuer in settings.issuers}
        for app in self.apps.keys() - apps:
            del self.apps[app]
        for name in self.quiet_periods.keys() - issuers:
            del self.quiet_periods[name]
        self.apps |= {app: AppReading() for app in sorted(apps - self.apps.keys())}
        self.quiet_periods |= {name: QuietPeriods() for name in issuers - self.quiet_periods.keys()}
        self._turns = Turns(self.apps)

    @property
    def old_seconds(self) -> float:
        """From which age on a reading is not shown."""
        return max(_OLD_SECONDS, 2 * self._turns.rounds * READ_SECONDS)

    async def keep_reading(self) -> None:
        """Read every `READ_SECONDS` while this receiver has the lease. Never returns."""
        read_at = -math.inf
        while True:
            had = self.lease.held
            try:
                if await self.lease.renew():
                    if time.monotonic() - read_at >= READ_SECONDS:
                        read_at = time.monotonic()
                        await self.read()
                elif had:
                    self._forget()
            except Exception:
                log.exception("metrics", outcome="failed")
            await asyncio.sleep(_RENEW_SECONDS)

    async def read(self) -> None:
        """Read the apps whose turn it is; what cannot be read keeps its age."""
        self._adopt()
        logouts: list[tuple[float, bytes]] = []
        async with reused_pipelines() as self._pipelines:
            for server, apps in (await self._by_server(self._turns.next())).items():
                try:
                    full = await self._not_empty(server, apps)
                    for start in range(0, len(full), _APPS_AT_ONCE):
                        await self._read_apps(server, full[start : start + _APPS_AT_ONCE], logouts)
                except EXCHANGE_FAULTS as error:
                    self._log_once("failed", str(fault_of(error)))
        # Several apps may have logouts of one issuer.
        for at, name in sorted(logouts):
            if (periods := self.quiet_periods.get(name.decode("utf-8", "replace"))) is not None:
                periods.add(at)

    def _forget(self) -> None:
        """Another receiver reads from now on."""
        for app in self.apps:
            self.apps[app] = AppReading()
        for issuer in self.quiet_periods:
            self.quiet_periods[issuer] = QuietPeriods()

    async def _by_server(self, apps: Sequence[str]) -> dict[Redis, list[str]]:
        by_server: dict[Redis, list[str]] = {}
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                for app in apps:
                    by_server.setdefault(await self._link.primary(app), []).append(app)
        except EXCHANGE_FAULTS as error:
            self._log_once("failed", str(fault_of(error)))
        return by_server

    async def _exchange(self, server: Redis, commands: Sequence[Command]) -> list[Any]:
        texts = [packed(*_words(command)) for command in commands]
        return await self._pipelines.exchange(server, texts, within=REDIS_SECONDS)

    async def _not_empty(self, server: Redis, apps: Sequence[str]) -> list[str]:
        """The apps of which Redis holds anything. The others, most of a large fleet, are done with
        four cheap commands."""
        full = []
        for start in range(0, len(apps), _EMPTY_AT_ONCE):
            chunk = apps[start : start + _EMPTY_AT_ONCE]
            commands: list[bytes] = []
            for app in chunk:
                keys = keys_of(app)
                commands += [
                    packed("EXISTS", keys.events),
                    packed("HLEN", keys.readers),
                    packed("XLEN", keys.receipts),
                    packed("XLEN", keys.dead_letters),
                ]
            answers = iter(await self._pipelines.exchange(server, commands, within=REDIS_SECONDS))
            for app in chunk:
                if [next(answers) for _ in range(4)] != [0, 0, 0, 0]:
                    full.append(app)
                    continue
                reading = self.apps[app]
                reading.written_bytes, reading.events_bytes = 0, None
                self._set_beyond(app, None)
                await self._take_readers(reading, {})
                reading.last_receipt = reading.last_receipt or b"0-0"
                reading.events = reading.dead_letters = 0
                reading.lag = reading.pending = None
                reading.at = time.time()
        return full

    async def _read_apps(
        self, server: Redis, apps: Sequence[str], logouts: list[tuple[float, bytes]]
    ) -> None:
        """Read what an app has written only if it is small enough; otherwise only what receivers
        have written."""
        try:
            written = await self._small_enough(server, apps)
            answers = iter(await self._query(server, apps, written))
        except AnswerTooLarge:
            # One query per app shows which one it is.
            for app in apps if len(apps) > 1 else ():
                await self._read_apps(server, [app], logouts)
            if len(apps) == 1:
                self._set_beyond(apps[0], BEYOND_ANSWER, hold=_TOO_LARGE_HOLDS)
            return
        own = {app: [next(answers) for _ in range(3)] for app in apps}
        from_app = {app: [next(answers) for _ in range(3)] for app in written}
        for app in apps:
            self._log_refused(app, [*own[app], *from_app.get(app, ())])
            events, dead, entries = map(_unless_refused, own[app])
            groups, readers, receipts = map(_unless_refused, from_app.get(app, (None,) * 3))
            entries = entries_of(entries)
            groups = [pairs_of(group) for group in groups or ()]
            readers = None if readers is None else pairs_of(readers)
            receipts = None if receipts is None else entries_of(receipts)
            reading = self.apps[app]
            if (entries and reading.last_event) or (receipts and reading.last_receipt):
                self._turns.add_news(app)
            if app in from_app:
                self._set_beyond(app, None)
            else:
                reading.readers, reading.last_report = {}, None
            await self._take_readers(reading, readers)
            await self._take_receipts(server, app, receipts)
            if entries:
                await self._take_events(server, app, entries, logouts)
            reading.events, reading.dead_letters = events, dead
            await self._take_groups(server, app, groups)
            reading.at = time.time()

    async def _query(self, server: Redis, apps: Sequence[str], written: Sequence[str]) -> list[Any]:
        """Three answers for each of ``apps``, then three for each of ``written``."""
        commands: list[Command] = []
        for app in apps:
            keys, reading = keys_of(app), self.apps[app]
            commands += [
                ("XLEN", keys.events),
                ("XLEN", keys.dead_letters),
                _newer(keys.events, reading.last_event, _PAGE),
            ]
        for app in written:
            keys, reading = keys_of(app), self.apps[app]
            count = 1 if reading.last_receipt is None else _PAGE
            commands += [
                ("XINFO GROUPS", keys.events),
                ("HGETALL", keys.readers),
                _newer(keys.receipts, reading.last_receipt, count),
            ]
        return await self._exchange(server, commands)

    async def _small_enough(self, server: Redis, apps: Sequence[str]) -> list[str]:
        """The apps that have not written too much, without those that are skipped for a while."""
        now = time.monotonic()
        checked = [app for app in apps if self.apps[app].beyond_until <= now]
        commands = [command for app in checked for command in size_commands(keys_of(app))]
        answers = iter(await self._exchange(server, commands))
        small = []
        for app in checked:
            own = [next(answers) for _ in range(COMMANDS)]
            if not isinstance(own[STREAM], RedisError):
                own[STREAM] = {"groups": pairs_of(own[STREAM]).get(b"groups")}
            reading, sizes = self.apps[app], sizes_of(own)
            reading.written_bytes, reading.events_bytes = sizes.written, sizes.events
            if sizes.beyond is None:
                small.append(app)
            else:
                self._set_beyond(app, sizes.beyond)
        return small

    def _set_beyond(self, app: str, beyond: str | None, *, hold: float = 0.0) -> None:
        """Logged when it begins and when it ends."""
        reading = self.apps[app]
        if (beyond is None) != (reading.beyond is None):
            if beyond is not None:
                log.warning("app", outcome="not_read", app=app, error=beyond)
            else:
                log.info("app", outcome="read_again", app=app)
        reading.beyond, reading.beyond_until = beyond, time.monotonic() + hold

    async def _take_events(
        self, server: Redis, app: str, first: _Page, logouts: list[tuple[float, bytes]]
    ) -> None:
        reading = self.apps[app]
        last, reading.last_event = reading.last_event, first[0][0]
        count = _PAST if last is None else _ENTRIES
        async for page in _pages(server, keys_of(app).events, first, last, count):
            logouts += map(_logout_of, filter(_is_providers, page))

    async def _take_readers(
        self, reading: AppReading, reports: Mapping[bytes, bytes] | None
    ) -> None:
        if reports is None:
            return
        now, last = time.time(), None
        counts = dict.fromkeys(ReaderKind, 0)
        del counts[ReaderKind.ENDED]  # no running process
        for number, (name, text) in enumerate(reports.items(), 1):
            if number % _REPORTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            reader = Reader.from_json(name, text)
            if reader is None:
                continue
            last = max(last or 0.0, min(reader.at, now))  # the apps' clocks differ
            if reader.kind in counts and is_active(reader, now):
                counts[reader.kind] += 1
        reading.readers, reading.last_report = counts, last

    async def _take_receipts(self, server: Redis, app: str, first: _Page | None) -> None:
        """Receipts from before the first reading are not counted."""
        if first is None:
            return
        reading = self.apps[app]
        last = reading.last_receipt
        # Advanced before counting: after a fault, nothing is counted twice.
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
        reading.pending = sum(group[b"pending"] for group in groups)
        reading.lag = 0
        for group in groups[:_GROUPS]:
            lag = group.get(b"lag")
            if lag is None:  # before Redis 7, and after deletions, it is unknown
                after = b"(" + group[b"last-delivered-id"]
                async with asyncio.timeout(REDIS_SECONDS):
                    unread: Any = await server.xrange(
                        keys_of(app).events, after, "+", count=_ENTRIES
                    )
                lag = len(unread)
            reading.lag = max(reading.lag, lag)

    def _log_refused(self, app: str, answers: Sequence[object]) -> None:
        if any(isinstance(answer, NoPermissionError) for answer in answers):
            self._log_once("refused", "NOPERM", app)

    def _log_once(self, outcome: str, error: str, app: str | None = None) -> None:
        """Only once; afterwards the age of the reading shows it."""
        if (outcome, error, app) not in self._logged:
            self._logged.add((outcome, error, app))
            log.warning("metrics", outcome=outcome, error=error, app=app)


def _unless_refused(answer: Any) -> Any:
    return None if isinstance(answer, RedisError) else answer


def _words(command: Command) -> Iterator[str | bytes | int]:
    """``XINFO STREAM`` are two words."""
    name, *arguments = command
    yield from str(name).split(" ")
    yield from arguments


def _newer(key: str, last: bytes | None, count: int) -> Command:
    """Query the entries after ``last``, newest first."""
    return ("XREVRANGE", key, "+", _after(last), "COUNT", count)


def _after(last: bytes | None) -> bytes:
    return b"-" if last is None else b"(" + last


async def _pages(
    server: Redis, key: str, first: _Page, last: bytes | None, max_entries: int
) -> AsyncIterator[_Page]:
    """``first`` and the pages between it and ``last``, newest first."""
    page, count = first, 0
    while page:
        yield page
        count += len(page)
        if len(page) < _PAGE or count >= max_entries:
            return
        async with asyncio.timeout(REDIS_SECONDS):
            answer: Any = await server.xrevrange(key, b"(" + page[-1][0], _after(last), count=_PAGE)
        page = answer


def _is_providers(entry: _Entry) -> bool:
    return entry[1].get(b"source") == _PROVIDERS and b"iss" in entry[1]


def _logout_of(entry: _Entry) -> tuple[float, bytes]:
    """When it was written, by Redis' clock, and its issuer."""
    entry_id, fields = entry
    return int(entry_id.partition(b"-")[0]) / 1000, fields[b"iss"]
