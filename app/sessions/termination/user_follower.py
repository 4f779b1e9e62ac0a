"""Follows the termination of all sessions of a user, from the provider's one call to its end.

The call also ends sessions that began after they were listed and that the receiver never saw. So
the apps get a revocation of the user for every login up to the moment when the provider accepted
the call: with a provider that sends no logout tokens (Kratos) such a session would live on there. A
login after that moment survives.
"""

from app.sessions.bulk import list_all
from app.sessions.lifecycle import has_ended
from app.sessions.provider_session import ProviderSession
from app.sessions.session_provider import ProviderFault
from app.sessions.termination.follower import Follower, FollowerContext
from app.sessions.termination.termination import Termination


class UserFollower(Follower):
    """Each listed session has a termination of its own, which waits for this call."""

    def __init__(self, context: FollowerContext, termination: Termination) -> None:
        super().__init__(context, termination)
        self._ended: dict[str, ProviderSession] = {}

    async def _call_provider(self) -> None:
        """Have it end all sessions; once it has accepted that, list those that are left."""
        context, termination, known_at = self._context, self.termination, self._context.clock()
        try:
            if termination.asked_at is None:
                ended = await context.provider.end_all(
                    termination.user, refresh_tokens=termination.refresh_tokens
                )
            else:
                listed = await list_all(context.provider, termination.user)
        except ProviderFault as fault:
            await self._record_fault(fault)
            return
        if termination.asked_at is None:
            self._ended = {session.id: session for session in ended}
            await self._record(asked_at=context.clock())
            for session in ended:  # some may have begun after they were listed before
                await context.also_end(session, self.termination, known_at, True)
            await self._record_still_there(False)
        elif left := [one for one in listed if self._is_left(one, termination.asked_at)]:
            for session in left:
                if session.id not in self._ended:
                    await context.also_end(session, self.termination, known_at, False)
            too_long = context.clock() >= termination.asked_at + context.confirm_within
            await self._record_still_there(too_long)
        else:
            await self._record(gone_at=context.clock(), ended_by=termination.asked_at)
            await self._record_problem(None)

    def _is_left(self, session: ProviderSession, asked_at: float) -> bool:
        """Whether the call covers the session, which a later login is not, and it has not ended."""
        if has_ended(session, refresh_tokens=self.termination.refresh_tokens):
            return False
        if session.created_at is None or session.offline:
            return True
        before = self._ended.get(session.id)
        known = before.created_at if before is not None else None
        return session.created_at <= (asked_at if known is None else known)

    async def _find_deliveries(self) -> None:
        """The apps get their event only after the provider reports that the sessions are gone."""
        if self.termination.gone_at is not None:
            await super()._find_deliveries()
