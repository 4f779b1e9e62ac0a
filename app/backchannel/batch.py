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
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.backchannel.admission import FairSemaphore
from app.backchannel.form import read_token
from app.backchannel.pipeline import REQUEST_SECONDS, Attempt, Provider, answer
from app.backchannel.waiting import Respond, WaitingRequests
from app.errors import fault_of
from app.log import new_log
from app.publish.writer import Writer, Written
from app.telemetry.attempt_log import AttemptRecord, Reporter

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
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._providers = providers
        self._writer = writer
        self._places = places
        self._waiting = waiting
        self._reporter = reporter or Reporter()
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop
        self._arrived: list[_Request] = []
        """In this turn of the event loop."""
        self._steps = (self._parse, self._verify, self._validate, self._write)

    def submit(
        self, media_type: str, body: bytes, respond: Respond, request_id: str | None = None
    ) -> None:
        """Answer a POST later, through ``respond``. Never raises."""
        record = AttemptRecord(self._reporter, time.perf_counter(), request_id)
        if not self._arrived:
            # Once per batch: in Python 3.11 it calls the kernel for the process id each time.
            self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._process)
        deadline = self._loop.time() + REQUEST_SECONDS
        attempt = Attempt(self._providers, record, b"", self._clock())
        self._arrived.append(_Request(attempt, media_type, body, deadline, respond))

    def _process(self) -> None:
        requests, self._arrived = self._arrived[:MAX_BATCH], self._arrived[MAX_BATCH:]
        for step in self._steps:
            remaining = []
            for request in requests:
                try:
                    if step(request):
                        remaining.append(request)
                except BaseException as error:  # noqa: BLE001  `answer` logs it
                    request.finish(fault_of(error))
            requests = remaining
        if self._arrived:
            # After the flusher which sends this batch to Redis.
            self._loop.call_soon(self._process)

    # Each step returns whether the next one follows, or raises the refusal.

    def _parse(self, request: "_Request") -> bool:
        attempt = request.attempt
        attempt.unverified_token = token = read_token(request.media_type, request.body)
        if not self._waiting.must_decrypt(token):
            attempt.parse()
            if attempt.find_keys():
                attempt.admit(self._places)
                return True
        return self._wait(request)

    @staticmethod
    def _verify(request: "_Request") -> bool:
        request.attempt.verify()
        return True

    @staticmethod
    def _validate(request: "_Request") -> bool:
        request.attempt.validate()
        return True

    def _write(self, request: "_Request") -> bool:
        revocations = request.attempt.revocations
        if len(revocations) > 1:
            return self._wait(request)
        self._writer.submit(revocations[0], until=request.deadline, done=request.finish)
        return False

    def _wait(self, request: "_Request") -> bool:
        self._waiting.start(request.attempt, request.deadline, request.respond)
        return False


@dataclass(slots=True, eq=False)
class _Request:
    """One POST."""

    attempt: Attempt
    media_type: str
    body: bytes
    deadline: float
    """In the event loop's time."""
    respond: Respond

    def finish(self, outcome: Written | Exception) -> None:
        """Give the place back, report and respond. Never raises."""
        self.attempt.leave()
        response = answer(self.attempt.record, outcome)
        try:
            self.respond(response)
        except Exception:
            log.exception("logout", outcome="failed", error="internal")
