"""Ends sessions at their providers and makes sure that they end in the apps.

`Terminations.begin` records what is to end; a `Follower` calls the provider and completes it, up to
a deadline. When this process stops or dies, another one takes over.
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
from app.sessions.termination.redis_records import LEASE_SECONDS, TerminationRecords
from app.sessions.termination.termination import Termination, termination_id
from app.sessions.termination.user_follower import UserFollower

log = new_log(__name__)

# How often to look for terminations whose lease has expired.
_SCAN_SECONDS = 2.0

# Followed by one process at once, of each kind; the rest waits in Redis. Separate limits, because
# the sessions of a user wait for the call for all of them and must not take its place. Each
# follower polls Redis a few times in its first seconds.
MAX_FOLLOWED = 200


class Terminations:
    """The terminations of every issuer whose provider has a session API.

    ``providers`` and ``issuers`` are by the issuer's configured name. ``count_unavailable`` returns
    how many logout tokens the service has answered with 503. ``clock`` returns epoch seconds;
    ``confirm_within`` is in seconds. ``process`` names this process in leases.
    """

    def __init__(
        self,
        reader: AppReader,
        writer: Writer,
        providers: Mapping[str, SessionProvider],
        issuers: Mapping[str, IssuerSettings],
        *,
        confirm_within: float,
        process: str,
        give_up: float = GIVE_UP_SECONDS,
        on_over: Callable[[Termination], Awaitable[None]] | None = None,
        count_unavailable: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.confirm_within = confirm_within
        self._reader = reader
        self.records = TerminationRecords(reader, process)
        self._providers = providers
        self._issuers = issuers
        self._writer = writer
        self._give_up = give_up
        self._on_over = on_over
        self._count_unavailable = count_unavailable
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
        user_termination: Termination | None = None,
    ) -> Termination:
        """Begin to end a session that the provider has just reported, or join its termination.

        Once this returns, the termination is followed to its end. ``known_at``, in epoch seconds,
        is when the session was read: of two simultaneous requests one may be complete before the
        other begins, and that is one termination too. ``user_termination`` comes from
        `all_of_user`, whose call ends this session.

        A session that is ``offline`` ends with its refresh tokens, because it has nothing else.

        Raises `Unreadable` as `all_of_user` does, and `ProviderFault` when refresh tokens are added
        to a termination that has begun and the provider does not end them.
        """
        refresh_tokens = refresh_tokens or session.offline
        issuer = self._issuers[session.issuer]
        apps, are_notified = affected_apps(issuer, session)
        now = round(self._clock(), 3)
        termination = Termination(
            issuer=session.issuer,
            session=session.id,
            user=session.user_id,
            provider=provider.kind,
            apps=tuple(apps),
            awaits_token=provider.sends_logout_tokens and are_notified,
            positions=await self._positions(apps),
            created_at=session.created_at,
            used_at=_used_at(session, max_time=now + issuer.leeway),
            began_at=now,
            refresh_tokens=refresh_tokens,
            user_termination=user_termination.id if user_termination is not None else None,
            who=who,
            why=why,
        )
        if await self.records.create(termination, known_at):
            self._follow(termination)
            return termination
        known = await self.records.load(termination.id)
        if known is None:
            raise Unreadable("not noted")
        if refresh_tokens and not known.refresh_tokens:
            await provider.end(session.id, refresh_tokens=True)
            await self.records.set_refresh_tokens(termination.id)
            known = replace(known, refresh_tokens=True)
        return known

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
        """Begin to end all sessions of a user with the provider's one call for that.

        It is recorded first. The block begins the termination of each known session; the call is
        made after the block, so no logout token arrives before its termination exists. If the block
        fails, or the process dies in it, the call is made all the same.

        Raises `Unreadable` when Redis does not take the record. Then nothing is ended, unless only
        Redis' answer was lost.
        """
        apps = sorted({client.app for client in self._issuers[provider.issuer].clients})
        termination = Termination(
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
        # First, because the sessions must not end when this fails.
        await self.records.set_newest(termination)
        if not await self.records.create(termination, termination.began_at):
            yield termination  # another request of the same millisecond
            return
        try:
            yield termination
        finally:
            if termination.id not in self._followed:
                self._follow(termination)

    async def find_others(self, issuer: str, user: str) -> list[Termination]:
        """The terminations of the sessions that the user last ended with one request."""
        ids = await self.records.others_of(issuer, user)
        known = [await self.find(issuer, session_id) for session_id in ids]
        return [one for one in known if one is not None and one.user == user]

    async def find(self, issuer: str, session_id: str) -> Termination | None:
        """The termination of a session, open or over; None when there is none, or not for days.

        Raises `Unreadable`.
        """
        return await self.records.load(termination_id(issuer, session_id))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the terminations that were begun here, or by a process that is gone."""
        try:
            async with background([self._keep_leases, self._keep_taking_over]):
                yield
        finally:
            followed = dict(self._followed)
            await end(followed.values())
            # If Redis does not answer, the leases expire.
            with contextlib.suppress(Unreadable):
                for followed_id in followed:
                    await self.records.release(followed_id)

    # -- following -------------------------------------------------------------------------

    def _follow(self, termination: Termination) -> None:
        context = FollowerContext(
            reader=self._reader,
            records=self.records,
            writer=self._writer,
            provider=self._providers[termination.issuer],
            issuer=self._issuers[termination.issuer],
            clock=self._clock,
            confirm_within=self.confirm_within,
            give_up=self._give_up,
            started_at=self._started_at,
            count_unavailable=self._count_unavailable,
            also_end=self._also_end,
        )
        follower = (UserFollower if termination.of_user else Follower)(context, termination)
        self._followed[termination.id] = asyncio.create_task(self._run(follower))

    async def _also_end(
        self, session: ProviderSession, of_user: Termination, known_at: float, called: bool
    ) -> None:
        await self.begin(
            self._providers[of_user.issuer], session, known_at=known_at, who=of_user.who,
            why=of_user.why, refresh_tokens=of_user.refresh_tokens,
            user_termination=of_user if called else None,
        )  # fmt: skip

    async def _run(self, follower: Follower) -> None:
        try:
            termination = await follower.follow()
            if self._on_over is not None:
                await self._on_over(termination)
        finally:
            self._followed.pop(follower.termination.id, None)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            for followed_id in list(self._followed):
                with contextlib.suppress(Unreadable):
                    if not await self.records.renew(followed_id):
                        # Expired, for example while Redis was away; another process may have it.
                        await self.records.acquire(followed_id)

    async def _keep_taking_over(self) -> None:
        while True:
            try:
                for of_user in (True, False):
                    await self._take_over(of_user)
            except Unreadable:
                pass  # the writer's monitor logs it
            except Exception:
                log.exception("ending", outcome="failed", error="internal")
            await asyncio.sleep(_SCAN_SECONDS)

    async def _take_over(self, of_user: bool) -> None:
        open_ids = await self.records.open_ids(of_user=of_user)
        waiting = [one for one in open_ids if one not in self._followed]
        random.shuffle(waiting)  # so that several processes try different ones
        # Those that begin here are followed at once, so there may be more than the limit already.
        free = max(MAX_FOLLOWED - (len(open_ids) - len(waiting)), 0)
        for open_id in waiting[:free]:
            if open_id in self._followed or not await self.records.acquire(open_id):
                continue
            termination = await self.records.load(open_id)
            if open_id in self._followed:
                continue  # begun here in the meantime
            if termination is None or termination.outcome is not None:
                await self.records.close(open_id, of_user=of_user)
            elif termination.issuer in self._providers:
                self._follow(termination)
            else:
                await self.records.release(open_id)  # only other processes know its issuer

    async def _positions(self, apps: Sequence[str]) -> dict[str, str]:
        newest = await asyncio.gather(*(newest_event_id(self._reader, app) for app in apps))
        return dict(zip(apps, newest, strict=True))


def _used_at(session: ProviderSession, *, max_time: float) -> float | None:
    """`Termination.used_at`. No cutoff is later than ``max_time``, so this is not either."""
    times = (session.created_at, session.authenticated_at, session.last_seen_at)
    newest = max((at for at in times if at is not None), default=None)
    return None if newest is None else min(newest, max_time)


def affected_apps(issuer: IssuerSettings, session: ProviderSession) -> tuple[Sequence[str], bool]:
    """The apps that may hold the session, and whether the provider will notify them.

    The apps of the clients that the provider lists for the session. When none of these is
    configured here, all apps: the list may lag, and an unnecessary marker does no harm.
    """
    used = {client.app for client in issuer.clients if client.client_id in session.clients}
    every = sorted({client.app for client in issuer.clients})
    if used:
        return [app for app in every if app in used], True
    return every, not session.clients
