"""Checks at each request that the caller's own session is alive, against Redis' primary.

The decision is the same as in the apps (docs/contract.md): an ended session can neither list nor
end anything, even if its app has not noticed yet.
"""

import time

from app.account.caller import Caller, unauthorized
from app.history.app_reader import AppReader, Unreadable, required
from app.web.errors import redis_unavailable
from backchannel_logout import AppKeys, Verdict, decide, marker_keys
from backchannel_logout.contract.decision import sid_marker, whole_number


class Liveness:
    def __init__(self, reader: AppReader) -> None:
        self._reader = reader

    async def check(self, caller: Caller) -> None:
        """Raises `ApiError`: 401 if the session has ended, 503 if that cannot be determined."""
        try:
            alive = [await self._is_alive(caller, app) for app in caller.apps]
        except (Unreadable, ValueError) as error:
            raise redis_unavailable() from error
        if not all(alive):
            raise unauthorized("this session has ended; sign in again", "session_ended")

    async def _is_alive(self, caller: Caller, app: str) -> bool:
        keys, now = AppKeys(app), time.time()
        names = marker_keys(keys, caller.session)
        answers = await self._reader.query_app(
            app, [("HGET", keys.meta, "max_session_age"), *(("GET", name) for name in names)]
        )
        max_session_age, *values = [required(answer) for answer in answers]
        if max_session_age is None:
            raise Unreadable("no meta")
        markers = dict(zip(names, values, strict=True))
        sid = caller.session.sid
        if caller.by_token and sid is not None and markers[keys.sid(caller.session.iss, sid)]:
            # A refreshed access token is younger than the logout that ended its session, so any
            # marker of the session ends it, whatever the cutoff.
            return False
        verdict = decide(
            caller.session, values, max_session_age=whole_number(max_session_age), now=now,
            sid_marker=sid_marker(caller.session, values),
        )  # fmt: skip
        return verdict is Verdict.ALIVE or (caller.confirmed and verdict is Verdict.EXPIRED)
