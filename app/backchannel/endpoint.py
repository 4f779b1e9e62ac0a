"""The Starlette endpoint: reads the body within limits, then processes it in its own task.

Back-Channel Logout 1.0, sections 2.5 (request), 2.7 (validation) and 2.8 (response). Serves
what the fast path does not take: bodies that arrive in parts, large or chunked ones, HTTP/1.0, and
every request while traces are on, since a span belongs to a task.
"""

import asyncio
import time
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.backchannel import form
from app.backchannel.admission import BodyBytes
from app.backchannel.pipeline import REQUEST_SECONDS, Attempt, Provider
from app.backchannel.waiting import WaitingRequests
from app.errors import fault_of
from app.server.paths import LOGOUT_PATH
from app.telemetry.attempt_log import AttemptRecord, Reporter, well_formed
from app.telemetry.traces import Tracing


class LogoutEndpoint:
    """`POST /backchannel-logout`. ``providers`` is keyed by every name of each issuer."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        waiting: WaitingRequests,
        *,
        reporter: Reporter | None = None,
        tracing: Tracing | None = None,
        trusts_request_id: bool = False,
    ) -> None:
        self._providers = providers
        self._waiting = waiting
        self._bodies = BodyBytes()
        self._reporter = reporter or Reporter()
        self._tracing = tracing
        self._trusts_request_id = trusts_request_id

    async def answer(self, request: Request) -> Response:
        """Answer one POST within `REQUEST_SECONDS`, even if the client or a dependency hangs."""
        # A proxy's rate limit applies to the literal path: another spelling is another path.
        if request.scope["raw_path"] != LOGOUT_PATH.encode():
            raise HTTPException(404)
        request_id = request.headers.get("x-request-id") if self._trusts_request_id else None
        if request_id is not None:
            request_id = well_formed(request_id)
        record = AttemptRecord(self._reporter, time.perf_counter(), request_id)
        if self._tracing is None:
            return await self._answer(request, record)
        with self._tracing.of(request.headers, record) as answered:
            return answered(await self._answer(request, record))

    async def _answer(self, request: Request, record: AttemptRecord) -> Response:
        deadline = asyncio.get_running_loop().time() + REQUEST_SECONDS
        attempt = Attempt(self._providers, record, b"", time.time())
        try:
            async with asyncio.timeout_at(deadline):
                attempt.unverified_token = await self._read(request)
        except BaseException as error:  # noqa: BLE001  `answer` logs it
            return attempt.answer(fault_of(error))
        return await self._waiting.answer(attempt, deadline)

    async def _read(self, request: Request) -> bytes:
        media_type = request.headers.get("content-type", "")
        if form.is_too_large(request.headers.get("content-length", "")):
            form.refuse_too_large(media_type)
        body = bytearray()
        with self._bodies.reading() as grown_to:
            async for chunk in request.stream():
                body += chunk
                if len(body) > form.MAX_BODY:
                    form.refuse_too_large(media_type)
                grown_to(len(body))
        # Only now: a response to half a request ends its connection.
        return form.read_token(media_type, body)
