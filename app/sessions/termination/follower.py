"""One ending, followed from the question to the provider to its end."""

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
from app.sessions.termination.record import Phase, Problem, Termination, with_delivery
from app.sessions.termination.redis_records import TerminationRecords

log = new_log(__name__)

# How long a provider may take to say that a session is gone. After that a person has to look.
GIVE_UP_SECONDS = 600.0

# Of a follower that takes over what another one has left for long: it has its own chance.
_MIN_SECONDS = 30.0

# Between two questions to the provider: most carry it out at once, some within seconds.
_FIRST_PAUSE, _MAX_PAUSE = 0.25, 20.0

# Between two looks at Redis: short while somebody watches, long when it takes its time.
_FIRST_POLL, _MAX_POLL = 0.1, 1.0

# The session of a user whose sessions end with one call is asked for by itself when nobody has made
# that call for so long.
USER_CALL_SECONDS = 30.0

# As for any other message: see `app.backchannel.endpoint`.
_WRITE_SECONDS = 1.8

STILL_THERE = "still_there"
"""The trouble with a provider that has taken the request and goes on telling of the session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerContext:
    """What a follower works with. Lengths of time are seconds."""

    reading: AppReader
    notes: TerminationRecords
    writer: Writer
    provider: SessionProvider
    issuer: IssuerSettings
    clock: Callable[[], float]
    confirm_within: float
    give_up: float
    started_at: float
    """Epoch seconds, of this process."""
    unavailable: Callable[[], float]
    """How many logout tokens the service has answered with 503."""
    also_end: Callable[[ProviderSession, Termination, float, bool], Awaitable[object]]
    """Begin the ending of one more session of this ending's user, unless it has begun. With
    ``known_at`` of `Endings.begin`, and whether the call for all of them has ended it."""


class Follower:
    """`ending` is how far it is, as this process knows it."""

    def __init__(self, world: FollowerContext, ending: Termination) -> None:
        self.ending = ending
        self._world = world
        now = world.clock()
        least = min(_MIN_SECONDS, world.give_up)
        self._until = max(ending.began_at + world.give_up, now + least)
        self._pause = _FIRST_PAUSE
        self._next_question = now
        self._look = _FIRST_POLL
        self._unavailable_before = world.unavailable()
        self._redis_was_away = False

    async def follow(self) -> Termination:
        """Return when it is over."""
        while not await self._stepped():
            await asyncio.sleep(self._look)
            self._look = min(self._look * 1.3, _MAX_POLL)
        return self.ending

    async def _stepped(self) -> bool:
        """Whatever can be done now. True: it is over."""
        try:
            await self._step()
        except Unreadable:
            self._redis_was_away = True  # the writer's watch says so in the log
        except Exception:
            # It is tried again, up to the same bound.
            log.exception("ending", outcome="failed", error="internal")
            self._look = _MAX_PAUSE
        with contextlib.suppress(Unreadable):
            if self.ending.gone_at is not None and not self.ending.untold:
                return await self._finish(Phase.CONFIRMED)
            if self._world.clock() >= self._until:
                return await self._finish(Phase.UNCONFIRMED)
        return False

    async def _step(self) -> None:
        now = self._world.clock()
        if self.ending.gone_at is None and now >= self._next_question:
            await self._ask_provider()
        await self._look_at_apps()
        if self.ending.gone_at is not None and self.ending.untold and self._waited_for_tokens():
            await self._write()
            await self._look_at_apps()

    # -- the provider ----------------------------------------------------------------------

    async def _ask_provider(self) -> None:
        """Ask it to end the session, and once it has taken that, whether it is gone."""
        if await self._waits_for_user_call():
            return
        world, ending = self._world, self.ending
        try:
            if ending.asked_at is None:
                known = await world.provider.end(
                    ending.session, refresh_tokens=ending.refresh_tokens
                )
                await self._note(asked_at=world.clock())
                gone, later = not known, None
            else:
                found = await world.provider.read(ending.session, user_id=ending.user)
                later = self._later(found)
                gone = later is not None or has_ended(found, refresh_tokens=ending.refresh_tokens)
        except ProviderFault as fault:
            await self._note_fault(fault)
            return
        if gone:
            now = world.clock()
            await self._note(gone_at=now, ended_by=self._ended_by(now, later))
            await self._note_trouble(None)
            return
        await self._note_still_there(ending.asked_at is not None and self._waited_for_tokens())

    async def _waits_for_user_call(self) -> bool:
        """Whether one call for all sessions of the user is about to end this one.

        When the provider has taken that call, it was asked for this session as well. Where the
        call meets trouble, or is not made in time, this session is ended by itself.
        """
        if self.ending.asked_at is not None or self.ending.user_ending is None:
            return False
        of_user = await self._world.notes.load(self.ending.user_ending)
        if of_user is None:
            return False
        if of_user.asked_at is not None:
            await self._note(asked_at=of_user.asked_at)
            return False
        if of_user.trouble is not None or of_user.outcome is not None:
            return False
        return self._world.clock() < self.ending.began_at + USER_CALL_SECONDS

    def _later(self, found: ProviderSession | None) -> float | None:
        """When the session began that has got the id since (Keycloak does that); None: it is none.

        By the provider's clock, as the beginning of the one before is. What lives in refresh tokens
        has a beginning of its own, and is no later login.
        """
        before = self.ending.created_at
        after = found.created_at if found is not None and not found.offline else None
        return after if before is not None and after is not None and after > before else None

    def _ended_by(self, now: float, later: float | None) -> float:
        """Until when the session that is gone can have been signed in with: docs/decisions/0027."""
        used = self.ending.used_at or 0.0
        if later is not None:
            # Cutoffs are whole seconds, and what logged in at one is dead.
            return max(used, math.floor(later) - 1.0)
        return max(used, now)

    async def _note_still_there(self, too_long: bool) -> None:
        """The provider has taken the request, and goes on telling of what was to end."""
        await self._note_trouble(STILL_THERE if too_long else None)
        self._wait_for_provider(0.0)

    async def _note_fault(self, fault: ProviderFault) -> None:
        """It has no answer: nothing is known of the session, and it is asked again."""
        if fault.kind is FaultKind.UNAUTHORIZED or fault.kind is FaultKind.FORBIDDEN:
            # Somebody has to mend that; asking often would only lock the credentials.
            self._pause = max(self._pause, _MAX_PAUSE / 4)
        await self._note_trouble(fault.kind.value, fault.detail)
        self._wait_for_provider(fault.retry_after or 0.0)

    def _wait_for_provider(self, at_least: float) -> None:
        self._next_question = self._world.clock() + max(self._pause, at_least)
        self._pause = min(self._pause * 2, _MAX_PAUSE)

    def _waited_for_tokens(self) -> bool:
        """Whether a logout token, where one is expected, would be there by now."""
        if not self.ending.awaits_token:
            return True
        asked_at = self.ending.asked_at or self.ending.gone_at
        return asked_at is not None and self._world.clock() >= asked_at + self._world.confirm_within

    # -- the apps --------------------------------------------------------------------------

    async def _look_at_apps(self) -> None:
        world = self._world
        for app in self.ending.untold:
            found = await find_delivery(
                world.reading, app, self.ending, world.issuer.names, world.issuer.leeway
            )
            if found is not None:
                await world.notes.note_told(self.ending.id, app, found)
                self.ending = with_delivery(self.ending, app, found)

    async def _write(self) -> None:
        """Tell the apps ourselves: the provider has said that the session is gone."""
        ending = self.ending
        if ending.hindered is None and (hindrance := self._hindrance()) is not None:
            await self._world.notes.note(ending.id, hindered=hindrance)
            self.ending = ending = replace(ending, hindered=hindrance)
        found = revocations(
            self._world.issuer, ending.untold,
            jti=f"ending-{ending.id}-{ending.began_at:.3f}",  # should two followers write it
            now=self._world.clock(), since=ending.ended_by or ending.gone_at,
            sid=ending.session or None, sub=ending.user, source=ending.provider,
        )  # fmt: skip
        until = asyncio.get_running_loop().time() + _WRITE_SECONDS
        try:
            await self._world.writer.write(found, until=until)
        except DependencyUnavailable as fault:
            self._redis_was_away = True
            await self._note_trouble(fault.outage.value, "")

    def _hindrance(self) -> str | None:
        """What may have kept us from taking a token since the question; one of `HINDRANCES`."""
        asked_at = self.ending.asked_at
        if asked_at is not None and self._world.started_at > asked_at:
            return "started"
        if self._redis_was_away:
            return "redis"
        if self._world.unavailable() > self._unavailable_before:
            return "unavailable"
        return None

    # -- what is noted ---------------------------------------------------------------------

    async def _note(self, **facts: float) -> None:
        facts = {name: round(value, 3) for name, value in facts.items()}
        await self._world.notes.note(self.ending.id, **facts)
        self.ending = replace(self.ending, **facts)  # type: ignore[arg-type]

    async def _note_trouble(self, what: str | None, detail: str = "") -> None:
        before, trouble = self.ending.trouble, None
        if what is None and before is None:
            return
        if what is not None:
            tries = before.tries + 1 if before is not None and before.what == what else 1
            at = round(self._world.clock(), 3)
            trouble = Problem(what=what, detail=detail, at=at, tries=tries)
        await self._world.notes.note_trouble(self.ending.id, trouble)
        self.ending = replace(self.ending, trouble=trouble)

    async def _finish(self, outcome: Phase) -> bool:
        ending, notes = self.ending, self._world.notes
        over_at = round(self._world.clock(), 3)
        if outcome is Phase.CONFIRMED:
            await self._note_trouble(None)
        await notes.note(ending.id, over_at=over_at, outcome=outcome.value)
        await notes.close(ending.id, of_user=ending.of_user)
        self.ending = replace(self.ending, over_at=over_at, outcome=outcome)
        tell = log.info if outcome is Phase.CONFIRMED else log.warning
        tell(
            "ending",
            outcome=outcome.value,
            provider=ending.provider,
            issuer=ending.issuer,
            trouble=ending.trouble.what if ending.trouble is not None else None,
            seconds=round(over_at - ending.began_at, 1),
        )
        return True
