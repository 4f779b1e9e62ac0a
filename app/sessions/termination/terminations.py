"""Ends sessions at their providers, and sees to it that they end in the apps.

`Terminations.begin` records what is to end and calls the provider; a `Follower` completes it. What
was begun is followed for as long as it takes, up to a bound: when this process stops or dies,
another one takes over.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from app.background import background, end
from app.config.issuers import IssuerSettings
from app.history.app_reader import AppReader, Unreadable
from app.log import new_log
from app.publish.writer import Writer
from app.sessions.provider_session import ProviderSession
from app.sessions.session_provider import SessionProvider
from app.sessions.termination.evidence import newest_event_id
from app.sessions.termination.follower import GIVE_UP_SECONDS, Follower, FollowerContext
from app.sessions.termination.record import Termination, termination_id
from app.sessions.termination.redis_records import LEASE_SECONDS, TerminationRecords
from app.sessions.termination.user_follower import UserFollower

log = new_log(__name__)

# What another process has left is found within this, after its lease has run out.
_SCAN_SECONDS = 2.0

# Followed by one process at once, of each kind: the sessions of a user wait for the call for all of
# them, so they must not take its place. The others wait for a place, in Redis. Each looks at Redis
# a few times in its first seconds.
MAX_FOLLOWED = 200


class Terminations:
    """For every issuer whose provider has a session API. ``providers`` and ``issuers`` are by the
    issuer's configured name; ``unavailable`` says how many logout tokens the service has answered
    with 503; ``clock`` is epoch seconds, ``confirm_within`` seconds."""

    def __init__(
        self,
        reading: AppReader,
        writer: Writer,
        providers: Mapping[str, SessionProvider],
        issuers: Mapping[str, IssuerSettings],
        *,
        confirm_within: float,
        me: str,
        give_up: float = GIVE_UP_SECONDS,
        on_over: Callable[[Termination], Awaitable[None]] | None = None,
        unavailable: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.confirm_within = confirm_within
        self._reading = reading
        self._notes = TerminationRecords(reading, me)
        self._providers = providers
        self._issuers = issuers
        self._writer = writer
        self._give_up = give_up
        self._on_over = on_over
        self._unavailable = unavailable
        self._clock = clock
        self._started_at = clock()
        self._followed: dict[str, asyncio.Task[None]] = {}

    async def begin(
        self,
        provider: SessionProvider,
        session: ProviderSession,
        *,
        known_at: float,
        refresh_tokens: bool = False,
        who: str = "-",
        why: str | None = None,
        user_ending: Termination | None = None,
    ) -> Termination:
        """Have a session end that the provider has just told of; returns how far that is.

        ``known_at``, in epoch seconds, is when the provider was asked for it: of two who end it at
        once, one may be through before the other begins. That is one end, too.

        From the return on it is followed to its end. Where it is under way already, that is the
        one. Raises `Unreadable` as `all_of_user` does, and `ProviderFault` where refresh tokens are
        to end as well and the provider does not take it.

        A session that is ``offline`` ends with its refresh tokens: there is nothing else of it.
        ``user_ending`` is that of `all_of_user`, whose call ends this session.
        """
        refresh_tokens = refresh_tokens or session.offline
        ending = await self._new(provider, session, refresh_tokens, who, why)
        if user_ending is not None:
            ending = replace(ending, user_ending=user_ending.id)
        if await self._notes.create(ending, known_at):
            self._follow(ending)
            return ending
        found = await self._notes.load(ending.id)
        if found is None:
            raise Unreadable("not noted")
        if refresh_tokens and not found.refresh_tokens:
            await provider.end(session.id, refresh_tokens=True)
            await self._notes.with_refresh_tokens(ending.id)
            found = replace(found, refresh_tokens=True)
        return found

    @contextlib.asynccontextmanager
    async def all_of_user(
        self,
        provider: SessionProvider,
        user: str,
        *,
        refresh_tokens: bool = False,
        who: str = "-",
        why: str | None = None,
    ) -> AsyncIterator[Termination]:
        """Have all sessions of a user end with the provider's one call for that.

        Noted at the beginning. The call is made after the block, which begins the ending of each
        session that is known, so that no logout token comes before its ending is there. Where the
        block fails, or the process dies in it, the call is made all the same. Raises `Unreadable`
        where Redis does not take the note; then nothing is done, unless it was only Redis' answer
        that was lost.
        """
        apps = sorted({client.app for client in self._issuers[provider.issuer].clients})
        ending = Termination(
            issuer=provider.issuer,
            session="",
            user=user,
            provider=provider.kind,
            apps=tuple(apps),
            awaits_token=False,
            positions=await self._positions(apps),
            created_at=None,
            began_at=round(self._clock(), 3),
            refresh_tokens=refresh_tokens,
            who=who,
            why=why,
        )
        # First: where this fails, the sessions must not end.
        await self._notes.note_newest(ending)
        if not await self._notes.create(ending, ending.began_at):
            yield ending  # another request of the same millisecond
            return
        try:
            yield ending
        finally:
            if ending.id not in self._followed:
                self._follow(ending)

    async def find_of_user(self, issuer: str, user: str) -> Termination | None:
        """The newest ending of all sessions of a user, as `find` finds that of one session."""
        return await self._notes.newest_of(issuer, user)

    async def note_others(self, issuer: str, user: str, sessions: Sequence[str]) -> None:
        """Remember that these sessions of the user's were ended with one request, so that one
        question is enough for all of them. Raises `Unreadable`."""
        await self._notes.note_others(issuer, user, sessions)

    async def find_others(self, issuer: str, user: str) -> list[Termination]:
        """The endings of the sessions that the user ended last with one request."""
        ids = await self._notes.others_of(issuer, user)
        found = [await self.find(issuer, one) for one in ids]
        return [one for one in found if one is not None and one.user == user]

    async def find(self, issuer: str, session_id: str) -> Termination | None:
        """The ending of a session, under way or over; None where there is none, or it was days
        ago. Raises `Unreadable`."""
        return await self._notes.load(termination_id(issuer, session_id))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow what was begun, here or by a process that is gone."""
        try:
            async with background([self._keep_leases, self._keep_taking_over]):
                yield
        finally:
            followed = dict(self._followed)
            await end(followed.values())
            # Redis may be away; then the leases run out by themselves.
            with contextlib.suppress(Unreadable):
                for one in followed:
                    await self._notes.leave(one)

    # -- what it follows -------------------------------------------------------------------

    def _follow(self, ending: Termination) -> None:
        issuer = self._issuers[ending.issuer]
        world = FollowerContext(
            reading=self._reading,
            notes=self._notes,
            writer=self._writer,
            provider=self._providers[ending.issuer],
            issuer=issuer,
            clock=self._clock,
            confirm_within=self.confirm_within,
            give_up=self._give_up,
            started_at=self._started_at,
            unavailable=self._unavailable,
            also_end=self._also_end,
        )
        follower = (UserFollower if ending.of_user else Follower)(world, ending)
        task = asyncio.create_task(self._followed_to_its_end(follower))
        self._followed[ending.id] = task

    async def _also_end(
        self, session: ProviderSession, ending: Termination, known_at: float, called: bool
    ) -> None:
        await self.begin(
            self._providers[ending.issuer], session, known_at=known_at, who=ending.who,
            why=ending.why, refresh_tokens=ending.refresh_tokens,
            user_ending=ending if called else None,
        )  # fmt: skip

    async def _followed_to_its_end(self, follower: Follower) -> None:
        try:
            ending = await follower.follow()
            if self._on_over is not None:
                await self._on_over(ending)
        finally:
            self._followed.pop(follower.ending.id, None)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            for one in list(self._followed):
                with contextlib.suppress(Unreadable):
                    if not await self._notes.keep(one):
                        # It ran out while Redis was away, say; somebody else may have it.
                        await self._notes.take(one)

    async def _keep_taking_over(self) -> None:
        while True:
            try:
                await self._take_over()
            except Unreadable:
                pass  # the writer's watch says so in the log
            except Exception:
                log.exception("ending", outcome="failed", error="internal")
            await asyncio.sleep(_SCAN_SECONDS)

    async def _take_over(self) -> None:
        for of_user in (True, False):
            await self._take_over_some(of_user)

    async def _take_over_some(self, of_user: bool) -> None:
        not_over = await self._notes.open(of_user=of_user)
        waiting = [one for one in not_over if one not in self._followed]
        random.shuffle(waiting)  # several processes, each its own
        # What begins here is followed at once, so there may be more already.
        places = max(MAX_FOLLOWED - (len(not_over) - len(waiting)), 0)
        for one in waiting[:places]:
            if one in self._followed or not await self._notes.take(one):
                continue
            ending = await self._notes.load(one)
            if one in self._followed:
                continue  # begun here meanwhile
            if ending is None or ending.outcome is not None:
                await self._notes.close(one, of_user=of_user)
            elif ending.issuer in self._providers:
                self._follow(ending)
            else:
                await self._notes.leave(one)  # of an issuer that other processes know

    # -- a new one -------------------------------------------------------------------------

    async def _new(
        self,
        provider: SessionProvider,
        session: ProviderSession,
        refresh_tokens: bool,
        who: str,
        why: str | None,
    ) -> Termination:
        issuer = self._issuers[session.issuer]
        apps, told = affected_apps(issuer, session)
        now = round(self._clock(), 3)
        return Termination(
            issuer=session.issuer,
            session=session.id,
            user=session.user_id,
            provider=provider.kind,
            apps=tuple(apps),
            awaits_token=provider.sends_logout_tokens and told,
            positions=await self._positions(apps),
            created_at=session.created_at,
            used_at=_used_at(session, at_most=now + issuer.leeway),
            began_at=now,
            refresh_tokens=refresh_tokens,
            who=who,
            why=why,
        )

    async def _positions(self, apps: Sequence[str]) -> dict[str, str]:
        newest = await asyncio.gather(*(newest_event_id(self._reading, app) for app in apps))
        return dict(zip(apps, newest, strict=True))


def _used_at(session: ProviderSession, *, at_most: float) -> float | None:
    """`Termination.used_at`, at most ``at_most``: no cutoff is later than that."""
    told = (session.created_at, session.authenticated_at, session.last_seen_at)
    newest = max((at for at in told if at is not None), default=None)
    return None if newest is None else min(newest, at_most)


def affected_apps(issuer: IssuerSettings, session: ProviderSession) -> tuple[Sequence[str], bool]:
    """The apps in which the session may be, and whether the provider will tell them.

    Those of the clients that it was used for, where the provider says which. Where none of them
    is configured here, all: a list may be behind, and a marker too many harms nobody.
    """
    used = {client.app for client in issuer.clients if client.client_id in session.clients}
    every = sorted({client.app for client in issuer.clients})
    if used:
        return [app for app in every if app in used], True
    return every, not session.clients
