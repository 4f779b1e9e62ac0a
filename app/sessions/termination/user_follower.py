"""All sessions of one user, followed from the provider's call for all of them to its end.

The call also ends a session that began after they were listed, and that perhaps nobody has seen. So
the apps get a revocation of the user, for everything up to the moment at which the provider had
taken the call: with a provider that tells the apps nothing (Kratos) it would live on there. A login
after that moment lives.
"""

from app.sessions.bulk import list_all
from app.sessions.lifecycle import has_ended
from app.sessions.provider_session import ProviderSession
from app.sessions.session_provider import ProviderFault
from app.sessions.termination.follower import Follower, FollowerContext
from app.sessions.termination.record import Termination


class UserFollower(Follower):
    """The sessions that were listed have an ending each; they wait for this call."""

    def __init__(self, world: FollowerContext, ending: Termination) -> None:
        super().__init__(world, ending)
        self._ended: dict[str, ProviderSession] = {}

    async def _ask_provider(self) -> None:
        """Have it end all of them, and once it has taken that, ask which are left."""
        world, ending, known_at = self._world, self.ending, self._world.clock()
        try:
            if ending.asked_at is None:
                found = await world.provider.end_all(
                    ending.user, refresh_tokens=ending.refresh_tokens
                )
            else:
                listed = await list_all(world.provider, ending.user)
        except ProviderFault as fault:
            await self._note_fault(fault)
            return
        if ending.asked_at is None:
            self._ended = {one.id: one for one in found}
            await self._note(asked_at=world.clock())
            for one in found:  # some may have begun after they were listed before
                await world.also_end(one, self.ending, known_at, True)
            await self._note_still_there(False)
        elif left := [one for one in listed if self._is_left(one, ending.asked_at)]:
            for one in left:
                if one.id not in self._ended:
                    await world.also_end(one, self.ending, known_at, False)
            too_long = world.clock() >= ending.asked_at + world.confirm_within
            await self._note_still_there(too_long)
        else:
            await self._note(gone_at=world.clock(), ended_by=ending.asked_at)
            await self._note_trouble(None)

    def _is_left(self, session: ProviderSession, asked_at: float) -> bool:
        """Whether the call was to end it: it has not ended, and is no later login."""
        if has_ended(session, refresh_tokens=self.ending.refresh_tokens):
            return False
        if session.created_at is None or session.offline:
            return True
        before = self._ended.get(session.id)
        known = before.created_at if before is not None else None
        return session.created_at <= (asked_at if known is None else known)

    async def _look_at_apps(self) -> None:
        """They are told once the provider says that the sessions are gone, and not before."""
        if self.ending.gone_at is not None:
            await super()._look_at_apps()
