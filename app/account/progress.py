"""The progress of a termination until every app has acted, as JSON and as server-sent events.

event: state    sent at each change; the last one is ``final``
event: ended    the caller's own session has ended
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.account.caller import Caller
from app.account.liveness import Liveness
from app.account.responses import OthersProgress, TerminationProgress, termination_progress
from app.history import History
from app.sessions.termination.termination import Termination
from app.sessions.termination.terminations import Terminations
from app.web import event_stream, params
from app.web.errors import ApiError, not_found, readable_redis
from app.web.event_stream import EventStreams
from app.web.json_api import json_response
from app.web.resource import resource
from app.web.session_models import termination_model

# Each of them reads from Redis twice a second.
MAX_STREAMS = 256
_PAUSE_SECONDS = 0.5

# Longer than most terminations take; a page that still waits reconnects.
MAX_SECONDS = 120.0


class ProgressRoutes:
    def __init__(
        self,
        terminations: Terminations,
        history: History,
        liveness: Liveness,
        stopping: Callable[[], bool],
    ) -> None:
        self._terminations = terminations
        self._history = history
        self._liveness = liveness
        self._streams = EventStreams(stopping, max_streams=MAX_STREAMS)

    @property
    def routes(self) -> list[Route]:
        session = "/account/sessions/{session}"
        return [
            resource("/account/sessions/state", GET=self.state_of_others),
            resource(session + "/state", GET=self.state),
            resource(session + "/events", GET=self.events),
        ]

    async def find(self, caller: Caller, session_id: str) -> Termination:
        """The termination of one of the caller's sessions. Raises `ApiError`."""
        with readable_redis():
            termination = await self._terminations.find(caller.issuer.issuer, session_id)
        if termination is None or termination.user != caller.sub:
            raise no_such_session()
        return termination

    async def progress(self, termination: Termination) -> TerminationProgress:
        model = await termination_model(
            termination, self._history, self._terminations.confirm_within
        )
        return termination_progress(termination, model, time.time())

    async def state(self, request: Request) -> Response:
        """The progress as JSON, or as events for a client that accepts only those."""
        if request.headers.get("accept", "").strip().lower() == "text/event-stream":
            return await self.events(request)
        params.query(request, [])
        caller: Caller = request.scope["caller"]
        termination = await self.find(caller, params.path_id(request, "session"))
        return json_response(await self.progress(termination))

    async def state_of_others(self, request: Request) -> Response:
        """The progress of all sessions that the user's last such request ended."""
        params.query(request, [])
        caller: Caller = request.scope["caller"]
        with readable_redis():
            others = await self._terminations.find_others(caller.issuer.issuer, caller.sub)
        sessions = [await self.progress(termination) for termination in others]
        return json_response(OthersProgress(sessions=sessions))

    async def events(self, request: Request) -> Response:
        """Stream until the progress is final, for at most `MAX_SECONDS`."""
        params.query(request, [])
        caller: Caller = request.scope["caller"]
        session_id = params.path_id(request, "session")
        await self.find(caller, session_id)
        self._streams.check_room("too many listen now", retry_after=5)
        return self._streams.response(self._changes(caller, session_id))

    async def _changes(self, caller: Caller, session_id: str) -> AsyncGenerator[str]:
        loop = asyncio.get_running_loop()
        until, last = loop.time() + MAX_SECONDS, None
        while loop.time() < until:
            try:
                await self._liveness.check(caller)
                current = await self.progress(await self.find(caller, session_id))
            except ApiError as error:
                if error.status == 401:
                    yield event_stream.event("ended", error.body.model_dump_json())
                    return
                # Redis is unavailable: the last known state stays.
            else:
                if current != last:
                    yield event_stream.event("state", current.model_dump_json())
                    last = current
                if current.final:
                    return
            await asyncio.sleep(_PAUSE_SECONDS)


def no_such_session() -> ApiError:
    """The same answer for an unknown session and for one of another user."""
    return not_found("you have no session of this id")
