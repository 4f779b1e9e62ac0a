"""Every question to what Redis holds, in one place."""

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
from app.history.audit_stream import AUDIT, REFUSED, AuditEntry, RefusalEntry
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
from app.history.streams import RunCommands, parse_entries
from app.store.topology import RedisTopology
from app.store.unserved import Unserved, UnservedApps, apps_of_settings
from backchannel_logout import AppKeys, Outcome

T = TypeVar("T")

# Questions at once: a Redis with a hundred apps is not asked a hundred things in one moment.
_MAX_CONCURRENT = 8


class History:
    """Reads through ``link``, which it does not close. ``clock`` is epoch seconds."""

    def __init__(
        self, settings: Settings, link: RedisTopology, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._reading = AppReader(link)
        self._clock = clock
        self._fewest = min(settings.event_max_len, settings.refused_max_len)
        self.live = FeedReader(self._reading, fewest=self._fewest)
        self.issuers: Mapping[str, IssuerSettings] = {
            name: issuer for issuer in settings.issuers for name in issuer.names
        }
        """Every issuer, by each of its names."""
        self._ends_of_all = SingleFlight(lambda: self._ends(feed_keys(self.apps, refusals=True)))
        self.apps: Sequence[str] = sorted(
            {one.app for issuer in settings.issuers for one in issuer.clients}
        )
        self._by_session: dict[str, set[str]] = {}
        """For each app, the names of the issuers whose tokens with ``sid`` end one session."""
        for issuer in settings.issuers:
            for client in issuer.clients:
                if client.both_claims == "session":
                    self._by_session.setdefault(client.app, set()).update(issuer.names)
        self._unserved = UnservedApps(link, apps_of_settings(settings))

    def apps_of(self, iss: str) -> Sequence[str]:
        """The apps whose sessions this issuer, by any of its names, can end."""
        issuer = self.issuers.get(iss)
        return sorted({one.app for one in issuer.clients}) if issuer is not None else []

    async def app_histories(
        self,
        question: RevocationQuery,
        apps: Sequence[str] | None = None,
        *,
        most: int = MAX_ENTRIES,
    ) -> list[AppHistory]:
        """Dead or alive, since when, by which token, and who has acted: for each app.

        ``apps`` None: those of the issuer. ``most`` entries of each app's stream are looked at.
        Redis' faults are in each app's ``fault``.
        """
        issuer = self.issuers.get(question.iss)
        leeway = issuer.leeway if issuer is not None else 0.0
        asked = self.apps_of(question.iss) if apps is None else apps

        async def of(app: str) -> AppHistory:
            return await read_app_history(
                self._reading, app, question, now=self._clock(), leeway=leeway, most=most
            )

        return await _gather_bounded(of, asked)

    async def session_history(
        self,
        question: RevocationQuery,
        apps: Sequence[str] | None = None,
        *,
        hashed: Hashed | None = None,
        most: int = MAX_ENTRIES,
    ) -> SessionHistory:
        """`app_histories`, the tokens about it that were not applied, and the conclusion.

        ``hashed`` None: refused tokens cannot be looked for.
        """
        stories = await self.app_histories(question, apps, most=most)
        refusals: list[RefusalEntry] | None = None
        with contextlib.suppress(Unreadable):
            if hashed is not None:
                found = await refusals_about(self._reading, question, hashed, self.issuers)
                # Sent again after it was applied, or applied when the keys came.
                done = {hashed(jti) for jti in _applied_jtis(stories)}
                refusals = [one for one in found if one.jti_hash not in done]
        now = self._clock()
        found_here = conclude(question, stories, refusals, now=now)
        if found_here.conclusion is not Conclusion.NOTHING_KNOWN:
            return found_here
        with contextlib.suppress(Unreadable):
            others = await self.issuers_knowing(question, hashed)
            elsewhere = [name for name in others if name != question.iss]
            return dataclasses.replace(found_here, elsewhere=tuple(elsewhere))
        return found_here

    async def issuers_knowing(
        self, question: RevocationQuery, hashed: Hashed | None = None
    ) -> list[str]:
        """The issuers, by name, that know the question's ids; its own issuer does not matter.
        Raises `Unreadable`."""
        names: dict[str, set[str]] = {}
        for name in self.issuers:
            for app in self.apps_of(name):
                names.setdefault(app, set()).add(name)
        return await issuers_knowing(self._reading, names, question, hashed)

    async def overviews(self, apps: Sequence[str] | None = None) -> list[AppOverview]:
        """Each app at a glance; Redis' faults are in each app's ``fault``."""

        async def of(app: str) -> AppOverview:
            by_session = self._by_session.get(app, ())
            return await read_app_overview(self._reading, app, self._clock(), by_session)

        return await _gather_bounded(of, self.apps if apps is None else apps)

    async def unserved(self) -> Unserved:
        """Apps that Redis holds and no client of the settings leads to; looks through all keys."""
        return await self._unserved.find()

    async def teardowns(self, app: str, *, most: int = RECEIPTS) -> list[float]:
        """Seconds from arrival to teardown of the last receipts, those of `AppOverview`, the oldest
        first. Raises `Unreadable`."""
        command = ("XREVRANGE", AppKeys(app).receipts, "+", "-", "COUNT", most)
        (answer,) = await self._reading.query_app_data(app, [command])
        found = parse_receipts(parse_entries(optional(answer)))
        return [one.seconds for one in reversed(found) if one.outcome is Outcome.DONE]

    async def with_proof(self, told: DeliveredEvent) -> DeliveredEvent:
        """The event with the app's proof as of now. Raises `Unreadable`."""
        return await with_proof(self._reading, told, self._clock())

    async def recent(
        self,
        wanted: Filter = EVERYTHING,
        apps: Sequence[str] | None = None,
        *,
        most: int = 100,
        before: str = "+",
    ) -> EntryPage[DeliveredEvent]:
        """The newest events of these apps (None: of all) that match the filter, newest first.

        ``before``: only those older than this id, such as the page's ``more``. A bounded number of
        entries is looked at. Raises `Unreadable`.
        """
        return await newest_in_streams(
            self._reading,
            {app: AppKeys(app).events for app in (self.apps if apps is None else apps)},
            DeliveredEvent.read, wanted.lets, most=most, before=before,
        )  # fmt: skip

    async def refusals(
        self, wanted: Filter = EVERYTHING, *, most: int = 100, before: str = "+"
    ) -> EntryPage[RefusalEntry]:
        """The newest refused tokens that match the filter, newest first. Raises `Unreadable`."""
        return await newest_in_stream(
            self._of_key(REFUSED), REFUSED, RefusalEntry.from_fields, wanted.lets,
            most=most, before=before,
        )  # fmt: skip

    async def refusal(self, entry_id: str) -> RefusalEntry | None:
        """One refused token; None where the stream holds it no more. Raises `Unreadable`."""
        (answer,) = await self._reading.query_key(
            REFUSED, [("XRANGE", REFUSED, entry_id, entry_id)]
        )
        found = parse_entries(required(answer))
        return RefusalEntry.from_fields(*found[0]) if found else None

    async def audit(self, *, most: int = 100, before: str = "+") -> EntryPage[AuditEntry]:
        """The newest acts of administrators, newest first. Raises `Unreadable`."""
        return await newest_in_stream(
            self._of_key(AUDIT), AUDIT, AuditEntry.from_fields, lambda _: True,
            most=most, before=before,
        )  # fmt: skip

    def feed(
        self,
        apps: Sequence[str] | None = None,
        *,
        refusals: bool = True,
        cursor: Mapping[str, str] | None = None,
        since: float | None = None,
        on_away: OnUnreadable = lambda _: None,
        fresh: bool = False,
    ) -> Feed:
        """What comes from now on in these apps (None: all), and refusals: see `Feed`."""
        return Feed(
            self._reading,
            self.live,
            self.apps if apps is None else apps,
            refusals=refusals,
            cursor=cursor,
            since=since,
            on_away=on_away,
            fresh=fresh,
            fewest=self._fewest,
        )

    async def feed_ends(
        self, apps: Sequence[str] | None = None, *, refusals: bool = True
    ) -> Cursor:
        """Where these apps (None: all) and the refusals end now. Raises `Unreadable`."""
        keys = feed_keys(self.apps if apps is None else apps, refusals=refusals)
        if len(keys) == len(self.apps) + 1:
            return await self._ends_of_all.get()
        return await self._ends(keys)

    async def _ends(self, keys: Mapping[str, str]) -> Cursor:
        began = self._clock()
        found = await self._reading.query_keys(
            {key: [("XREVRANGE", key, "+", "-", "COUNT", 1)] for key in keys.values()}
        )
        cursor = cursor_at_end(found, keys)
        cursor.settle(began)
        return cursor

    def _of_key(self, key: str) -> RunCommands:
        return lambda commands: self._reading.query_key(key, commands)


async def _gather_bounded(of: Callable[[str], Awaitable[T]], apps: Sequence[str]) -> list[T]:
    """The answer for each app, in their order."""
    places = asyncio.Semaphore(_MAX_CONCURRENT)

    async def one(app: str) -> T:
        async with places:
            return await of(app)

    return await asyncio.gather(*(one(app) for app in apps))


def _applied_jtis(stories: Iterable[AppHistory]) -> Iterator[str]:
    """The ids of the tokens that have ended it."""
    for one in stories:
        for told in one.events:
            if told.event is not None and told.event.jti is not None:
                yield told.event.jti
