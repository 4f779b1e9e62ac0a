"""Requests which have to wait, each in a task of its own.

They wait for a decryption, for keys, or for the writes of several apps. The steps are those of
`pipeline`; this module adds the waiting, the deadline, and parking for tokens whose keys are not
available.
"""

import asyncio
from collections.abc import Callable

from starlette.responses import Response

from app.backchannel.admission import FairSemaphore
from app.backchannel.decryption_queue import DecryptionQueue
from app.backchannel.pipeline import REQUEST_SECONDS, Attempt
from app.errors import DependencyUnavailable, fault_of
from app.log import new_log
from app.publish.writer import Writer, Written
from app.tokens.encrypted_jwt import is_encrypted
from app.tokens.provider_keys import MAX_WAIT
from app.tracing import span

log = new_log(__name__)

Respond = Callable[[Response], None]

Park = Callable[[Attempt], None]
"""Keeps a parsed token until its keys arrive. Never fails."""


class WaitingRequests:
    """``decryption`` is None where no issuer has a decryption key."""

    def __init__(
        self,
        writer: Writer,
        *,
        places: FairSemaphore,
        park: Park,
        decryption: DecryptionQueue | None = None,
    ) -> None:
        self._writer = writer
        self._places = places
        self._park = park
        self.serve(decryption)
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, decryption: DecryptionQueue | None) -> None:
        """Take these keys for decryption from now on."""
        self._decryption = decryption
        self.decrypts = decryption is not None

    def start(self, attempt: Attempt, deadline: float, respond: Respond) -> None:
        """Run the steps that are left in a task, then respond. `aclose` waits for it."""
        task = asyncio.create_task(self._respond(attempt, deadline, respond))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def answer(self, attempt: Attempt, deadline: float) -> Response:
        """Run the steps that are left, at most until ``deadline``, in the event loop's time."""
        outcome: Written | Exception
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await self._process(attempt, deadline)
        except BaseException as error:  # noqa: BLE001  `answer` logs it
            outcome = fault_of(error)
        finally:
            attempt.leave()
        return attempt.answer(outcome)

    async def aclose(self) -> None:
        """Wait for the requests that are left. Their deadlines bound this."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _respond(self, attempt: Attempt, deadline: float, respond: Respond) -> None:
        response = await self.answer(attempt, deadline)
        try:
            respond(response)
        except Exception:
            log.exception("logout", outcome="failed", error="internal")

    async def _process(self, attempt: Attempt, deadline: float) -> Written:
        if not attempt.parsed:
            await self._decrypt(attempt)
            attempt.parse()
        if not attempt.revocations:
            attempt.admit(self._places)
            await self._verify(attempt, deadline - REQUEST_SECONDS + MAX_WAIT)
            attempt.validate()
        with span("store", issuer=attempt.issuer.issuer):
            return await self._writer.write(attempt.revocations, until=deadline)

    async def _decrypt(self, attempt: Attempt) -> None:
        if self._decryption is not None and is_encrypted(attempt.unverified_token):
            attempt.unverified_token = await self._decryption.decrypt(attempt.unverified_token)
            attempt.decrypted = True

    async def _verify(self, attempt: Attempt, until: float) -> None:
        try:
            with span("verify", issuer=attempt.issuer.issuer):
                await attempt.fetch_and_verify(until)
        except (DependencyUnavailable, asyncio.CancelledError):
            # Cancelled: the deadline came before the keys.
            self._park(attempt)
            raise
