"""The short way of `POST /backchannel-logout`: requests that are here whole, worked off together.

Where nothing but Redis has to be waited for, a request needs no task, no deadline and no future of
its own. And those that came in one turn of the event loop take each step one behind the other, some
twenty at once: the processor has it at hand then, which saves a tenth of its time or more
(docs/performance.md). The rules and their order are those of `BackchannelEndpoint`, to which goes
whatever has to wait for more.

    open -> prove -> judge -> write          each for all, then the next one
    (Redis answers the group)
    written -> copy -> told -> log -> answer
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response

from app.backchannel.endpoint import REQUEST_SECONDS, BackchannelEndpoint
from app.backchannel.form import read_whole
from app.config.issuers import IssuerSettings
from app.errors import DependencyUnavailable, Outage, fault_of, to_http
from app.log import new_log
from app.publish.writer import Written
from app.revocation import Revocation
from app.server.fast_path import Spawn
from app.store.errors import RedisFault
from app.store.store import Result
from app.telemetry.attempt_log import AttemptRecord
from app.tokens import signed_jwt
from app.tokens.jwks import KeySet
from app.tokens.signed_jwt import SignedClaims, UnverifiedJwt

log = new_log(__name__)

Respond = Callable[[Response], None]

# As many as are taken step by step together. More are cheaper still, but then nothing is left to do
# while Redis works on them: so a part of them goes there before the next one is begun.
_TOGETHER = 20


class BatchProcessor:
    """Those of one process, for ``endpoint``."""

    def __init__(self, endpoint: BackchannelEndpoint) -> None:
        self.endpoint = endpoint
        self.loop: asyncio.AbstractEventLoop
        """In which the requests arrive."""
        self._arrived: list[_Request] = []
        """In this turn of the event loop."""
        self.written: list[_Request] = []
        """Those whose results are being told together."""
        endpoint.writer.gather(self)

    def answer(
        self,
        media_type: str,
        body: bytes,
        respond: Respond,
        spawn: Spawn,
        request_id: str | None = None,
    ) -> None:
        """Answer a POST, by ``respond``, later. ``spawn`` runs what has to wait for more than
        Redis. Never fails."""
        endpoint = self.endpoint
        story = endpoint.new_story(request_id)
        if not self._arrived:
            # Once for all of them: in Python 3.11 it asks the kernel for the process, each time.
            self.loop = asyncio.get_running_loop()
            self.loop.call_soon(self._work_off)
        self._arrived.append(
            _Request(
                self, story, respond, spawn, media_type, body, endpoint.clock(),
                self.loop.time() + REQUEST_SECONDS,
            )
        )  # fmt: skip

    def _work_off(self) -> None:
        at_work, self._arrived = self._arrived[:_TOGETHER], self._arrived[_TOGETHER:]
        for step in _STEPS:
            going_on = []
            for one in at_work:
                try:
                    if step(one):
                        going_on.append(one)
                except BaseException as error:  # noqa: BLE001  it is logged there
                    one.failed(fault_of(error))
            at_work = going_on
        if self._arrived:
            # Behind the lane that takes these to Redis, which works on them meanwhile.
            self.loop.call_soon(self._work_off)

    def hold(self) -> None:
        """Results are told: see `app.store.batching.Gathering`."""

    def release(self) -> None:
        """All of them are told, and in the copy. Log lines first, then the answers."""
        written, self.written = self.written, []
        answers = [(one, one.told()) for one in written]
        for one, response in answers:
            one.answer(response)


@dataclass(slots=True, eq=False)
class _Request:
    """One of them. A step says whether the next one follows, or raises what refuses the token."""

    whole: BatchProcessor
    story: AttemptRecord
    respond: Respond
    spawn: Spawn
    media_type: str
    body: bytes
    arrived_at: float
    """Epoch seconds."""
    until: float
    """When it must be answered, in the event loop's time."""
    has_place: bool = False
    """One of its issuer's."""
    jwt: UnverifiedJwt = field(init=False)
    issuer: IssuerSettings = field(init=False)
    key_set: KeySet = field(init=False)
    signed: SignedClaims = field(init=False)
    revocation: Revocation = field(init=False)

    def open(self) -> bool:
        """All that can be asked before the signature, and whether its key is there."""
        endpoint, unverified_token = self.whole.endpoint, read_whole(self.media_type, self.body)
        if not endpoint.is_encrypted(unverified_token):
            self.jwt, self.issuer = endpoint.opened(unverified_token, self.story)
            key_set = signed_jwt.keys_at_hand(self.jwt, endpoint.keys_of(self.issuer))
            if key_set is not None:
                self.key_set = key_set
                endpoint.places.take(self.issuer.issuer)
                self.has_place = True
                return True
        self.spawn(endpoint.answer_later(unverified_token, self.story, self.respond))
        return False

    def prove(self) -> bool:
        self.signed = signed_jwt.verify_by(self.jwt, self.issuer, self.key_set)
        return True

    def judge(self) -> bool:
        revocations = self.whole.endpoint.judged(self.signed, self.story, self.arrived_at)
        self.revocation = revocations[0]
        if len(revocations) == 1:
            return True
        self._wait_for(self.whole.endpoint.writer.write(revocations, until=self.until))
        return False

    def write(self) -> bool:
        writer, one = self.whole.endpoint.writer, self.revocation
        now = self.whole.loop.time()
        if not writer.begin(one, now=now, until=self.until, done=self._written):
            self._wait_for(writer.write([one], until=self.until))
        return False

    def _written(self, result: Result) -> None:
        """Redis has answered, or has not in time."""
        writer = self.whole.endpoint.writer
        if isinstance(result, RedisFault):
            self._wait_for(writer.write_failed(self.revocation, result, given=REQUEST_SECONDS))
            return
        try:
            self.story.outcome = writer.written(self.revocation, result)
        except BaseException as error:  # noqa: BLE001  it is logged there
            self.failed(fault_of(error))
            return
        self._give_place_back()
        self.whole.written.append(self)

    # Others wait in the same turn or group: of these three none ever fails.

    def told(self) -> Response:
        """Its answer, now that it is told what has become of it."""
        try:
            return self.whole.endpoint.done(self.story)
        except Exception as error:  # noqa: BLE001  it is logged there
            return self._fault(error)

    def failed(self, error: Exception) -> None:
        """Answer to a fault. Call it where the fault is handled."""
        self._give_place_back()
        self.answer(self._fault(error))

    def answer(self, response: Response) -> None:
        try:
            self.respond(response)
        except Exception:
            log.exception("logout", outcome="failed", error="internal")

    def _fault(self, error: Exception) -> Response:
        try:
            return self.whole.endpoint.failed(self.story, error)
        except Exception:
            log.exception("logout", outcome="failed", error="internal")
            status, body, headers = to_http(DependencyUnavailable(Outage.INTERNAL))
            return JSONResponse(body, status_code=status, headers=headers)

    def _give_place_back(self) -> None:
        if self.has_place:
            self.has_place = False
            self.whole.endpoint.places.give_back(self.issuer.issuer)

    def _wait_for(self, writing: Coroutine[Any, Any, Written]) -> None:
        """Answer when ``writing`` has ended, or the request's time has."""
        self.spawn(self._waiting_for(writing))

    async def _waiting_for(self, writing: Coroutine[Any, Any, Written]) -> None:
        try:
            async with asyncio.timeout_at(self.until):
                self.story.outcome = await writing
        except BaseException as error:  # noqa: BLE001  it is logged there
            self.failed(fault_of(error))
            return
        finally:
            self._give_place_back()
        self.answer(self.told())


_STEPS = (_Request.open, _Request.prove, _Request.judge, _Request.write)
