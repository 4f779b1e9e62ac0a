"""All queries about what Redis holds."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from app.config.issuers import IssuerSettings
from app.config.model import Settings
from app.history.app_history import MAX_ENTRIES, read_app_history
from app.history.app_overview import RECEIPTS, read_app_overview
from app.history.app_reader import AppReader, Unreadable, optional, required
from app.history.audit_stream import AuditEntry, RefusalEntry
from app.history.conclusion import conclude
from app.history.feed.cursor import Cursor
from app.history.feed.event_feed import Feed, OnUnreadable, feed_keys
from app.history.feed.feed_reader import FeedReader
from app.history.feed.stream_positions import cursor_at_end
from app.history.filters import EVERYTHING, Filter
from app.history.newest_entries import EntryPage, newest_in_stream, newest_in_streams
from app.history.proofs import parse_receipts, with_proof
from app.history.records import (
    AppHistory,
    AppOverview,
    Conclusion,
    DeliveredEvent,
    RevocationQuery,
    SessionHistory,
)
from app.history.search import Hashed, issuers_knowing, refusals_about
from app.history.single_flight import SingleFlight
from app.history.streams import parse_entries
from app.store.operator_streams import AUDIT, REFUSED
from app.store.topology import RedisTopology
from app.store.unserved import Unserved, UnservedApps, apps_of_settings
from backchannel_logout import AppKeys, Outcome

T = TypeVar("T")

# Simultaneous queries, so that a hundred apps do not cause a hundred at once.
_MAX_CONCURRENT = 8


class History:
    """Reads through ``link``, which it does not close. ``clock`` returns epoch seconds."""

    def __init__(
        self, settings: Settings, link: RedisTopology, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._reader = AppReader(link)
        self._clock = clock
        self._min_length = min(settings.event_max_len, settings.refused_max_len)
        self.live = FeedReader(self._reader, min_length=self._min_length)
        self.issuers: Mapping[str, IssuerSettings] = {
            name: issuer for issuer in settings.issuers for name in issuer.names
        }
        """Every issuer by each of its names."""
        self._ends_of_all = SingleFlight(lambda: self._ends(feed_keys(self.apps, refusals=True)))
        self.apps: Sequence[str] = sorted(
            {client.app for issuer in settings.issuers for client in issuer.clients}
        )
        self._by_session: dict[str, set[str]] = {}
        """For each app, the names of the issuers whose tokens with ``sid`` end one session."""
        for issuer in settings.issuers:
            for client in issuer.clients:
                if client.both_claims == "session":
                    self._by_session.setdefault(client.app, set()).update(issuer.names)
        self._unserved = UnservedApps(link, apps_of_settings(settings))

    def apps_of(self, iss: str) -> Sequence[str]:
        """The apps whose sessions this issuer can end; it may be given by any of its names."""
        issuer = self.issuers.get(iss)
        return sorted({client.app for client in issuer.clients}) if issuer is not None else []

    async def app_histories(
        self,
        query: RevocationQuery,
        apps: Sequence[str] | None = None,
        *,
        limit: int = MAX_ENTRIES,
    ) -> list[AppHistory]:
        """For each app: whether it is dead, since when, by which token, and who has acted.

        ``apps`` None: those of the issuer. Examines ``limit`` entries of each app's stream. Redis'
        faults are in each app's ``fault``.
        """
        issuer = self.issuers.get(query.iss)
        leeway = issuer.leeway if issuer is not None else 0.0
        concerned = self.apps_of(query.iss) if apps is None else apps

        async def of(app: str) -> AppHistory:
            try:
                return await read_app_history(
                    self._reader, app, query, now=self._clock(), leeway=leeway, limit=limit
                )
            except Unreadable as fault:
                return AppHistory(app=app, fault=str(fault))

        return await _gather_bounded(of, concerned)

    async def session_history(
        self,
        query: RevocationQuery,
        apps: Sequence[str] | None = None,
        *,
        hashed: Hashed | None = None,
        limit: int = MAX_ENTRIES,
    ) -> SessionHistory:
        """`app_histories`, the tokens about it that were not applied, and the conclusion.

        ``hashed`` None: refused tokens cannot be searched.
        """
        histories = await self.app_histories(query, apps, limit=limit)
        refusals: list[RefusalEntry] | None = None
        with contextlib.suppress(Unreadable):
            if hashed is not None:
                matches = await refusals_about(self._reader, query, hashed, self.issuers)
                # Without tokens that were applied before, or when the keys arrived.
                done = {hashed(jti) for jti in _applied_jtis(histories)}
                refusals = [refusal for refusal in matches if refusal.jti_hash not in done]
        now = self._clock()
        own = conclude(query, histories, refusals, now=now)
        if own.conclusion is not Conclusion.NOTHING_KNOWN:
            return own
        with contextlib.suppress(Unreadable):
            others = await self.issuers_knowing(query, hashed)
            elsewhere = [name for name in others if name != query.iss]
            return dataclasses.replace(own, elsewhere=tuple(elsewhere))
        return own

    async def issuers_knowing(
        self, query: RevocationQuery, hashed: Hashed | None = None
    ) -> list[str]:
        """The issuers, by name, that know the query's ids; its own issuer is ignored.

        Raises `Unreadable`.
        """
        names: dict[str, set[str]] = {}
        for name in self.issuers:
            for app in self.apps_of(name):
                names.setdefault(app, set()).add(name)
        return await issuers_knowing(self._reader, names, query, hashed)

    async def overviews(self, apps: Sequence[str] | None = None) -> list[AppOverview]:
        """An overview of each app; Redis' faults are in its ``fault``."""

        async def of(app: str) -> AppOverview:
            by_session = self._by_session.get(app, ())
            try:
                return await read_app_overview(self._reader, app, self._clock(), by_session)
            except Unreadable as fault:
                return AppOverview(app=app, fault=str(fault))

        return await _gather_bounded(of, self.apps if apps is None else apps)

    async def unserved(self) -> Unserved:
        """Apps in Redis that no configured client belongs to. Scans all keys."""
        return await self._unserved.find()

    async def teardowns(self, app: str, *, limit: int = RECEIPTS) -> list[float]:
        """Seconds from arrival to teardown in the latest receipts, oldest first, as `AppOverview`.

        Raises `Unreadable`.
        """
        command = ("XREVRANGE", AppKeys(app).receipts, "+", "-", "COUNT", limit)
        (answer,) = await self._reader.query_app_data(app, [command])
        newest = parse_receipts(parse_entries(optional(answer)))
        return [receipt.seconds for receipt in reversed(newest) if receipt.outcome is Outcome.DONE]

    async def with_proof(self, delivered: DeliveredEvent) -> DeliveredEvent:
        """The event with the app's current proof. Raises `Unreadable`."""
        return await with_proof(self._reader, delivered, self._clock())

    async def recent(
        self,
        wanted: Filter = EVERYTHING,
        apps: Sequence[str] | None = None,
        *,
        limit: int = 100,
        before: str = "+",
    ) -> EntryPage[DeliveredEvent]:
        """The newest matching events of these apps (None: all), newest first.

        ``before``: only events older than this id, such as a page's ``more``. Examines a bounded
        number of entries. Raises `Unreadable`.
        """
        return await newest_in_streams(
            self._reader,
            {app: AppKeys(app).events for app in (self.apps if apps is None else apps)},
            DeliveredEvent.read, wanted.passes, limit=limit, before=before,
        )  # fmt: skip

    async def refusals(
        self, wanted: Filter = EVERYTHING, *, limit: int = 100, before: str = "+"
    ) -> EntryPage[RefusalEntry]:
        """The newest matching refused tokens, newest first. Raises `Unreadable`."""
        return await newest_in_stream(
            self._reader, REFUSED, RefusalEntry, wanted.passes,
            limit=limit, before=before,
        )  # fmt: skip

    async def refusal(self, entry_id: str) -> RefusalEntry | None:
        """One refused token; None if the stream no longer has it. Raises `Unreadable`."""
        (answer,) = await self._reader.query_key(REFUSED, [("XRANGE", REFUSED, entry_id, entry_id)])
        entries = parse_entries(required(answer))
        return RefusalEntry.from_fields(*entries[0]) if entries else None

    async def audit(self, *, limit: int = 100, before: str = "+") -> EntryPage[AuditEntry]:
        """The newest audit entries, newest first. Raises `Unreadable`."""
        return await newest_in_stream(
            self._reader, AUDIT, AuditEntry, lambda _: True,
            limit=limit, before=before,
        )  # fmt: skip

    def feed(
        self,
        apps: Sequence[str] | None = None,
        *,
        refusals: bool = True,
        cursor: Mapping[str, str] | None = None,
        since: float | None = None,
        on_unreadable: OnUnreadable = lambda _: None,
        fresh: bool = False,
    ) -> Feed:
        """A feed of new items of these apps (None: all), and of refusals: see `Feed`."""
        return Feed(
            self._reader,
            self.live,
            self.apps if apps is None else apps,
            refusals=refusals,
            cursor=cursor,
            since=since,
            on_unreadable=on_unreadable,
            fresh=fresh,
            min_length=self._min_length,
        )

    async def feed_ends(
        self, apps: Sequence[str] | None = None, *, refusals: bool = True
    ) -> Cursor:
        """The current end of these apps' streams (None: all) and of the refusals.

        Raises `Unreadable`.
        """
        keys = feed_keys(self.apps if apps is None else apps, refusals=refusals)
        if len(keys) == len(self.apps) + 1:
            return await self._ends_of_all.get()
        return await self._ends(keys)

    async def _ends(self, keys: Mapping[str, str]) -> Cursor:
        began = self._clock()
        newest = await self._reader.query_keys(
            {key: [("XREVRANGE", key, "+", "-", "COUNT", 1)] for key in keys.values()}
        )
        cursor = cursor_at_end(newest, keys)
        cursor.settle(began)
        return cursor


async def _gather_bounded(of: Callable[[str], Awaitable[T]], apps: Sequence[str]) -> list[T]:
    """Run it for each app, in bounded parallel; results in the apps' order."""
    slots = asyncio.Semaphore(_MAX_CONCURRENT)

    async def run(app: str) -> T:
        async with slots:
            return await of(app)

    return await asyncio.gather(*(run(app) for app in apps))


def _applied_jtis(histories: Iterable[AppHistory]) -> Iterator[str]:
    """The ``jti`` of each token that was applied."""
    for history in histories:
        for delivered in history.events:
            if delivered.event is not None and delivered.event.jti is not None:
                yield delivered.event.jti
