"""The progress of a termination until every app has acted, as JSON and as server-sent events.

event: state    sent at each change; the last one is ``final``
event: ended    the caller's own session has ended
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.account.caller import Caller
from app.account.liveness import Liveness
from app.account.serializers import Json, shown_progress
from app.history import History, Unreadable
from app.sessions.session_json import termination_json
from app.sessions.termination.record import Termination
from app.sessions.termination.terminations import Terminations
from app.web import event_stream, params
from app.web.errors import ApiFault, not_found, redis_away
from app.web.event_stream import EventStreams
from app.web.resource import resource

# Each of them reads from Redis twice a second.
MAX_STREAMS = 256
_PAUSE_SECONDS = 0.5

# Longer than most terminations take; a page that still waits reconnects.
MAX_SECONDS = 120.0


class Progress:
    def __init__(
        self,
        endings: Terminations,
        history: History,
        liveness: Liveness,
        stopping: Callable[[], bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._endings = endings
        self._history = history
        self._liveness = liveness
        self._clock = clock
        self._streams = EventStreams(stopping, max_streams=MAX_STREAMS)

    @property
    def routes(self) -> list[Route]:
        one = "/account/sessions/{session}"
        return [
            resource("/account/sessions/state", GET=self.state_of_others),
            resource(one + "/state", GET=self.state),
            resource(one + "/events", GET=self.events),
        ]

    async def of(self, caller: Caller, session_id: str) -> Termination:
        """The end of a session of the caller's. Raises `ApiFault`."""
        try:
            ending = await self._endings.find(caller.issuer.issuer, session_id)
        except Unreadable as fault:
            raise redis_away() from fault
        if ending is None or ending.user != caller.sub:
            raise not_found("you have no session of this id")
        return ending

    async def shown(self, ending: Termination) -> Json:
        shown = await termination_json(ending, self._history, self._endings.confirm_within)
        return shown_progress(ending, shown, self._clock())

    async def state(self, request: Request) -> Response:
        """As JSON; as events for who accepts them alone."""
        if request.headers.get("accept", "").strip().lower() == "text/event-stream":
            return await self.events(request)
        params.query(request, [])
        caller: Caller = request.scope["caller"]
        ending = await self.of(caller, params.segment(request, "session"))
        return JSONResponse(await self.shown(ending))

    async def state_of_others(self, request: Request) -> Response:
        """As `state`, of all sessions that the user ended last with one request."""
        params.query(request, [])
        caller: Caller = request.scope["caller"]
        try:
            endings = await self._endings.find_others(caller.issuer.issuer, caller.sub)
        except Unreadable as fault:
            raise redis_away() from fault
        return JSONResponse({"sessions": [await self.shown(one) for one in endings]})

    async def events(self, request: Request) -> Response:
        """Until it is final, or for as long as a page may wait."""
        params.query(request, [])
        caller: Caller = request.scope["caller"]
        session_id = params.segment(request, "session")
        await self.of(caller, session_id)
        self._streams.check_room("too many listen now", retry_after=5)
        return self._streams.response(self._changes(caller, session_id))

    async def _changes(self, caller: Caller, session_id: str) -> AsyncGenerator[str]:
        loop = asyncio.get_running_loop()
        until, before = loop.time() + MAX_SECONDS, None
        while loop.time() < until:
            try:
                await self._liveness.check(caller)
                now = await self.shown(await self.of(caller, session_id))
            except ApiFault as fault:
                if fault.status == 401:
                    yield event_stream.event("ended", json.dumps(fault.body))
                    return
                now = before or {}  # Redis is unavailable: the last known state stays
            if now and now != before:
                yield event_stream.event("state", json.dumps(now))
                before = now
            if now.get("final"):
                return
            await asyncio.sleep(_PAUSE_SECONDS)
