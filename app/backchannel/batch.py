"""Processes all requests of one turn of the event loop together, each step for all of them.

    parse -> verify -> validate -> write        each for all, then the next one
    (Redis acknowledges the batch)
    answer

A request which needs nothing but Redis needs no task, timer or future of its own. Taking each step
for some twenty requests in a row also keeps the step's code in the processor's caches, which saves
a tenth of the time or more (docs/performance.md). A request which has to wait goes on in
`waiting`. A failure of one never affects the others.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.backchannel.admission import FairSemaphore
from app.backchannel.form import read_token
from app.backchannel.pipeline import REQUEST_SECONDS, Attempt, Provider
from app.backchannel.waiting import Respond, WaitingRequests
from app.errors import fault_of
from app.log import new_log
from app.publish.writer import Writer, Written
from app.telemetry.attempt_log import AttemptRecord, Reporter, well_formed
from app.tokens.encrypted_jwt import is_encrypted

log = new_log(__name__)

# Requests processed step by step together. Larger batches are cheaper, but leave nothing to do
# while Redis works: one batch goes to Redis before the next one begins.
MAX_BATCH = 20


class BatchProcessor:
    """Answers the POSTs of one process. ``providers`` is keyed by every name of each issuer."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        writer: Writer,
        *,
        places: FairSemaphore,
        waiting: WaitingRequests,
        reporter: Reporter | None = None,
    ) -> None:
        self._providers = providers
        self._writer = writer
        self._places = places
        self._waiting = waiting
        self._reporter = reporter or Reporter()
        self._loop: asyncio.AbstractEventLoop
        self._arrived: list[_Request] = []
        """In this turn of the event loop."""
        self._steps: Sequence[Callable[[_Request], bool | None]] = (
            self._parse, self._verify, Attempt.validate, self._write,
        )  # fmt: skip

    def submit(
        self, media_type: str, body: bytes, respond: Respond, request_id: str | None = None
    ) -> None:
        """Answer a POST later, through ``respond``. Never raises."""
        if request_id is not None:
            request_id = well_formed(request_id)
        record = AttemptRecord(self._reporter, time.perf_counter(), request_id)
        if not self._arrived:
            # Once per batch: in Python 3.11 it calls the kernel for the process id each time.
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._process)
        self._arrived.append(
            _Request(
                self._providers, record, b"", time.time(), media_type=media_type, body=body,
                deadline=self._loop.time() + REQUEST_SECONDS, respond=respond,
            )
        )  # fmt: skip

    def _process(self) -> None:
        requests, self._arrived = self._arrived[:MAX_BATCH], self._arrived[MAX_BATCH:]
        for step in self._steps:
            remaining = []
            for request in requests:
                try:
                    if not step(request):
                        remaining.append(request)
                except BaseException as error:  # noqa: BLE001  `answer` logs it
                    request.finish(fault_of(error))
            requests = remaining
        if self._arrived:
            # After the flusher which sends this batch to Redis.
            self._loop.call_soon(self._process)

    # Each step returns whether the request has left the batch, or raises its refusal.

    def _parse(self, request: "_Request") -> bool:
        token = request.unverified_token = read_token(request.media_type, request.body)
        if not (self._waiting.decrypts and is_encrypted(token)):
            request.parse()
            if request.find_keys():
                request.admit(self._places)
                return False
        return self._wait(request)

    def _verify(self, request: "_Request") -> bool:
        if request.verify():
            return False
        request.leave()  # `waiting` takes a place again
        return self._wait(request)

    def _write(self, request: "_Request") -> bool:
        if len(request.revocations) > 1:
            return self._wait(request)
        [revocation] = request.revocations
        self._writer.submit(revocation, until=request.deadline, done=request.finish)
        return True

    def _wait(self, request: "_Request") -> bool:
        self._waiting.start(request, request.deadline, request.respond)
        return True


@dataclass(slots=True, eq=False, kw_only=True)
class _Request(Attempt):
    """One POST."""

    media_type: str
    body: bytes
    deadline: float
    """In the event loop's time."""
    respond: Respond

    def finish(self, outcome: Written | Exception) -> None:
        """Report and respond. Never raises."""
        response = self.answer(outcome)
        try:
            self.respond(response)
        except Exception:
            log.exception("logout", outcome="failed", error="internal")
