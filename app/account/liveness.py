"""Whether the caller's own session lives: asked at each call, of Redis' primary.

The decision is the apps' own (docs/contract.md): an ended session can neither list nor end
anything, also while its app has not noticed yet.
"""

import time
from collections.abc import Callable

from app.account.caller import Caller, unauthorized
from app.history.app_reader import AppReader, Unreadable, required
from app.web.errors import redis_away
from backchannel_logout import AppKeys, Verdict, decide, marker_keys
from backchannel_logout.contract.decision import sid_marker, whole_number


class Liveness:
    """Asks by ``reading``. ``clock`` is epoch seconds."""

    def __init__(self, reading: AppReader, clock: Callable[[], float] = time.time) -> None:
        self._reading = reading
        self._clock = clock

    async def check(self, caller: Caller) -> None:
        """Raises `ApiFault`: 401 where the session has ended, 503 while nobody knows."""
        try:
            alive = [await self._lives(caller, app) for app in caller.apps]
        except (Unreadable, ValueError) as fault:
            raise redis_away() from fault
        if not all(alive):
            raise unauthorized("this session has ended; sign in again", "session_ended")

    async def _lives(self, caller: Caller, app: str) -> bool:
        keys, now = AppKeys(app), self._clock()
        wanted = marker_keys(keys, caller.session)
        answers = [
            required(one)
            for one in await self._reading.query_app(
                app,
                [("HGET", keys.meta, "max_session_age"), *(("GET", key) for key in wanted)],
            )
        ]
        if answers[0] is None:
            raise Unreadable("no meta")
        age = whole_number(answers[0])
        found = dict(zip(wanted, answers[1:], strict=True))
        sid = caller.session.sid
        if caller.by_token and sid is not None and found[keys.sid(caller.session.iss, sid)]:
            # A refreshed access token is younger than the logout that ended its session, so that
            # any marker of the session itself ends it, whatever its cutoff.
            return False
        values = list(found.values())
        own = sid_marker(caller.session, values)
        verdict = decide(caller.session, values, max_session_age=age, now=now, sid_marker=own)
        return verdict is Verdict.ALIVE or (caller.confirmed and verdict is Verdict.EXPIRED)
