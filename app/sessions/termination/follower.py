"""Follows one termination from the provider's call to its end."""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from app.admin_revocations import revocations
from app.config.issuers import IssuerSettings
from app.errors import DependencyUnavailable
from app.history.app_reader import AppReader, Unreadable
from app.log import new_log
from app.publish.writer import Writer
from app.sessions.lifecycle import has_ended
from app.sessions.provider_session import ProviderSession
from app.sessions.session_provider import FaultKind, ProviderFault, SessionProvider
from app.sessions.termination.evidence import find_delivery
from app.sessions.termination.redis_records import TerminationRecords
from app.sessions.termination.termination import Phase, Problem, Termination

log = new_log(__name__)

# How long a provider may take to report that a session is gone, before a person has to look.
GIVE_UP_SECONDS = 600.0

# A follower that takes over an old termination gets at least this long.
_MIN_SECONDS = 30.0

# Between calls to the provider: most end a session at once, some within seconds.
_FIRST_PAUSE, _MAX_PAUSE = 0.25, 20.0

# Between polls of Redis: short while a user watches, longer when it takes its time.
_FIRST_POLL, _MAX_POLL = 0.1, 1.0

# A session waits this long for the call for all of its user's sessions before it is ended alone.
USER_CALL_SECONDS = 30.0

# As for a logout token: see `app.backchannel.endpoint`.
_WRITE_SECONDS = 1.8

STILL_THERE = "still_there"
"""The problem of a provider that accepted the request and still reports the session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerContext:
    """What a follower works with. Durations are in seconds."""

    reader: AppReader
    records: TerminationRecords
    writer: Writer
    provider: SessionProvider
    issuer: IssuerSettings
    clock: Callable[[], float]
    confirm_within: float
    give_up: float
    started_at: float
    """When this process started, in epoch seconds."""
    count_unavailable: Callable[[], float]
    """How many logout tokens the service has answered with 503."""
    also_end: Callable[[ProviderSession, Termination, float, bool], Awaitable[object]]
    """Begins the termination of one more session of the user, unless it has begun. Takes
    ``known_at`` of `Terminations.begin`, and whether the call for all sessions has ended it."""


class Follower:
    """``termination`` is its state as this process knows it."""

    def __init__(self, context: FollowerContext, termination: Termination) -> None:
        self.termination = termination
        self._context = context
        now = context.clock()
        remaining = min(_MIN_SECONDS, context.give_up)
        self._until = max(termination.began_at + context.give_up, now + remaining)
        self._pause = _FIRST_PAUSE
        self._next_call = now
        self._poll_pause = _FIRST_POLL
        self._unavailable_before = context.count_unavailable()
        self._redis_was_away = False

    async def follow(self) -> Termination:
        """Return when it is over."""
        while not await self._advance():
            await asyncio.sleep(self._poll_pause)
            self._poll_pause = min(self._poll_pause * 1.3, _MAX_POLL)
        return self.termination

    async def _advance(self) -> bool:
        """Do everything that can be done now. True: it is over."""
        try:
            await self._step()
        except Unreadable:
            self._redis_was_away = True  # the writer's monitor logs it
        except Exception:
            # Retried until the same deadline.
            log.exception("ending", outcome="failed", error="internal")
            self._poll_pause = _MAX_PAUSE
        with contextlib.suppress(Unreadable):
            if self.termination.gone_at is not None and not self.termination.pending_apps:
                return await self._finish(Phase.CONFIRMED)
            if self._context.clock() >= self._until:
                return await self._finish(Phase.UNCONFIRMED)
        return False

    async def _step(self) -> None:
        now = self._context.clock()
        if self.termination.gone_at is None and now >= self._next_call:
            await self._call_provider()
        await self._find_deliveries()
        is_gone = self.termination.gone_at is not None
        if is_gone and self.termination.pending_apps and self._waited_for_tokens():
            await self._write()
            await self._find_deliveries()

    # -- the provider ----------------------------------------------------------------------

    async def _call_provider(self) -> None:
        """Have it end the session; once it has accepted that, ask whether the session is gone."""
        if await self._waits_for_user_call():
            return
        context, termination = self._context, self.termination
        try:
            if termination.asked_at is None:
                known = await context.provider.end(
                    termination.session, refresh_tokens=termination.refresh_tokens
                )
                await self._record(asked_at=context.clock())
                gone, later_login = not known, None
            else:
                session = await context.provider.read(termination.session, user_id=termination.user)
                later_login = self._later_login(session)
                gone = later_login is not None or has_ended(
                    session, refresh_tokens=termination.refresh_tokens
                )
        except ProviderFault as fault:
            await self._record_fault(fault)
            return
        if gone:
            now = context.clock()
            await self._record(gone_at=now, ended_by=self._ended_by(now, later_login))
            await self._record_problem(None)
            return
        await self._record_still_there(
            termination.asked_at is not None and self._waited_for_tokens()
        )

    async def _waits_for_user_call(self) -> bool:
        """Whether one call for all sessions of the user is about to end this one.

        Once the provider has accepted that call, this session counts as asked for too. If the call
        meets a problem, or is not made in time, this session is ended alone.
        """
        if self.termination.asked_at is not None or self.termination.user_termination is None:
            return False
        of_user = await self._context.records.load(self.termination.user_termination)
        if of_user is None:
            return False
        if of_user.asked_at is not None:
            await self._record(asked_at=of_user.asked_at)
            return False
        if of_user.problem is not None or of_user.outcome is not None:
            return False
        return self._context.clock() < self.termination.began_at + USER_CALL_SECONDS

    def _later_login(self, session: ProviderSession | None) -> float | None:
        """When another session began that now has the id (Keycloak reuses ids); None: no such one.

        Both beginnings are by the provider's clock. Offline sessions have a beginning of their own,
        which is no later login.
        """
        before = self.termination.created_at
        after = session.created_at if session is not None and not session.offline else None
        return after if before is not None and after is not None and after > before else None

    def _ended_by(self, now: float, later_login: float | None) -> float:
        """Until when the gone session can have been used to log in: docs/decisions/0027."""
        used = self.termination.used_at or 0.0
        if later_login is not None:
            # Cutoffs are whole seconds, and a login at the cutoff is dead.
            return max(used, math.floor(later_login) - 1.0)
        return max(used, now)

    async def _record_still_there(self, too_long: bool) -> None:
        """The provider has accepted the request and still reports the session."""
        await self._record_problem(STILL_THERE if too_long else None)
        self._schedule_call(0.0)

    async def _record_fault(self, fault: ProviderFault) -> None:
        """No answer, so nothing is known of the session; the call is repeated."""
        if fault.kind is FaultKind.UNAUTHORIZED or fault.kind is FaultKind.FORBIDDEN:
            # A person has to fix that; frequent calls would only lock the credentials.
            self._pause = max(self._pause, _MAX_PAUSE / 4)
        await self._record_problem(fault.kind.value, fault.detail)
        self._schedule_call(fault.retry_after or 0.0)

    def _schedule_call(self, min_pause: float) -> None:
        self._next_call = self._context.clock() + max(self._pause, min_pause)
        self._pause = min(self._pause * 2, _MAX_PAUSE)

    def _waited_for_tokens(self) -> bool:
        """Whether an expected logout token would have arrived by now."""
        if not self.termination.awaits_token:
            return True
        asked_at = self.termination.asked_at or self.termination.gone_at
        return (
            asked_at is not None
            and self._context.clock() >= asked_at + self._context.confirm_within
        )

    # -- the apps --------------------------------------------------------------------------

    async def _find_deliveries(self) -> None:
        context = self._context
        for app in self.termination.pending_apps:
            delivery = await find_delivery(
                context.reader, app, self.termination, context.issuer.names, context.issuer.leeway
            )
            if delivery is not None:
                await context.records.add_delivery(self.termination.id, app, delivery)
                deliveries = {**self.termination.deliveries, app: delivery}
                self.termination = replace(self.termination, deliveries=deliveries)

    async def _write(self) -> None:
        """Write the apps' revocations: the provider has reported that the session is gone."""
        termination = self.termination
        if termination.hindrance is None and (hindrance := self._hindrance()) is not None:
            await self._context.records.add(termination.id, hindered=hindrance)
            self.termination = termination = replace(termination, hindrance=hindrance)
        pending = revocations(
            self._context.issuer, termination.pending_apps,
            jti=f"ending-{termination.id}-{termination.began_at:.3f}",  # the same for two followers
            now=self._context.clock(), since=termination.ended_by or termination.gone_at,
            sid=termination.session or None, sub=termination.user, source=termination.provider,
        )  # fmt: skip
        until = asyncio.get_running_loop().time() + _WRITE_SECONDS
        try:
            await self._context.writer.write(pending, until=until)
        except DependencyUnavailable as fault:
            self._redis_was_away = True
            await self._record_problem(fault.outage.value, "")

    def _hindrance(self) -> str | None:
        """Why a logout token may have been missed since the call; a key of `report.HINDRANCES`."""
        asked_at = self.termination.asked_at
        if asked_at is not None and self._context.started_at > asked_at:
            return "started"
        if self._redis_was_away:
            return "redis"
        if self._context.count_unavailable() > self._unavailable_before:
            return "unavailable"
        return None

    # -- the record ------------------------------------------------------------------------

    async def _record(self, **facts: float) -> None:
        facts = {name: round(value, 3) for name, value in facts.items()}
        await self._context.records.add(self.termination.id, **facts)
        self.termination = replace(self.termination, **facts)  # type: ignore[arg-type]

    async def _record_problem(self, what: str | None, detail: str = "") -> None:
        before, problem = self.termination.problem, None
        if what is None and before is None:
            return
        if what is not None:
            tries = before.tries + 1 if before is not None and before.what == what else 1
            at = round(self._context.clock(), 3)
            problem = Problem(what=what, detail=detail, at=at, tries=tries)
        await self._context.records.set_problem(self.termination.id, problem)
        self.termination = replace(self.termination, problem=problem)

    async def _finish(self, outcome: Phase) -> bool:
        termination, records = self.termination, self._context.records
        over_at = round(self._context.clock(), 3)
        if outcome is Phase.CONFIRMED:
            await self._record_problem(None)
        await records.add(termination.id, over_at=over_at, outcome=outcome.value)
        await records.close(termination.id, of_user=termination.of_user)
        self.termination = replace(self.termination, over_at=over_at, outcome=outcome)
        write_line = log.info if outcome is Phase.CONFIRMED else log.warning
        write_line(
            "ending",
            outcome=outcome.value,
            provider=termination.provider,
            issuer=termination.issuer,
            trouble=termination.problem.what if termination.problem is not None else None,
            seconds=round(over_at - termination.began_at, 1),
        )
        return True
