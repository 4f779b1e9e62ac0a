"""How far the end of a session is, until every app has let go: as JSON, and as server-sent events.

event: state    whenever it has changed; the last one is ``final``
event: ended    the caller's own session has ended meanwhile
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from app.account.caller import Caller
from app.account.liveness import Liveness
from app.account.serializers import Json, shown_progress
from app.history import History, Unreadable
from app.sessions.session_json import shown_ending
from app.sessions.termination.record import Termination
from app.sessions.termination.terminations import Terminations
from app.web import params
from app.web.errors import ApiFault, not_found, redis_away
from app.web.resource import resource

# Each asks Redis twice a second.
MOST_LISTENERS = 256
_PAUSE_SECONDS = 0.5

# Longer than an end is followed as a rule; a page that still waits asks again.
MOST_SECONDS = 120.0

# Shorter than the idle timeouts of proxies.
_HEARTBEAT_SECONDS = 15.0

_HEADERS = {"X-Accel-Buffering": "no"}  # nginx would keep it to itself until it has a page full


class Progress:
    """``stopping`` says whether the service has been told to stop."""

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
        self._stopping = stopping
        self._clock = clock
        self._listeners = 0

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
        shown = await shown_ending(ending, self._history, self._endings.confirm_within)
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
        if self._listeners >= MOST_LISTENERS:
            raise ApiFault(503, "too_many_listeners", "too many listen now", retry_after=5)
        return StreamingResponse(
            self._sent(caller, session_id), headers=_HEADERS, media_type="text/event-stream"
        )

    async def _sent(self, caller: Caller, session_id: str) -> AsyncIterator[str]:
        self._listeners += 1
        loop = asyncio.get_running_loop()
        until, said, before = loop.time() + MOST_SECONDS, loop.time(), None
        try:
            while not self._stopping() and loop.time() < until:
                try:
                    await self._liveness.check(caller)
                    now = await self.shown(await self.of(caller, session_id))
                except ApiFault as fault:
                    if fault.status == 401:
                        yield _event("ended", fault.body)
                        return
                    now = before or {}  # Redis is away for a moment: what was known stays
                if now and now != before:
                    yield _event("state", now)
                    before, said = now, loop.time()
                elif loop.time() - said >= _HEARTBEAT_SECONDS:
                    yield ": still here\n\n"
                    said = loop.time()
                if now.get("final"):
                    return
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self._listeners -= 1


def _event(name: str, data: Json) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
