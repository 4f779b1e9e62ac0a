"""`POST /backchannel-logout`: a provider's logout token in, 200, 400 or 503 out.

Back-Channel Logout 1.0, sections 2.5 (request), 2.7 (what the relying party does) and 2.8
(response). Owns the request's time; knows neither keys nor Redis.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from app.errors import DependencyUnavailable, Outage, Reason, TokenRefused, to_http
from app.inbound.decrypting import Decrypting
from app.inbound.form import read_form, read_whole
from app.inbound.load import BodyBytes, Places
from app.inbound.revocations import revocations_for
from app.log import new_log
from app.publish.redis_fault import RedisFault
from app.publish.store import Result
from app.publish.writer import Writer, Written
from app.revocation import Revocation
from app.settings import IssuerSettings
from app.settings_plain import PlainIssuer
from app.spans import span
from app.telemetry.output import LINES
from app.telemetry.story import Story, Teller, well_formed
from app.telemetry.traces import Tracing
from app.tokens import logout_token, signed_jwt
from app.tokens.encrypted_jwt import is_encrypted
from app.tokens.provider_keys import LONGEST_WAIT, ProviderKeys
from app.tokens.signed_jwt import SignedClaims, UnverifiedJwt

log = new_log(__name__)

# The least patient provider waits 2.5 s (oidc-provider), and most never send again: an
# answer after that is a logout that the provider believes lost.
REQUEST_SECONDS = 1.8


# It says nothing of the request, and nothing changes it.
_OK = Response(status_code=200)


@dataclass(frozen=True, slots=True)
class Provider:
    """A configured issuer and its keys."""

    issuer: IssuerSettings
    keys: ProviderKeys


Respond = Callable[[Response], None]
Spawn = Callable[[Coroutine[Any, Any, None]], None]
"""Runs it in a task that a stop waits for."""

Park = Callable[[bytes, UnverifiedJwt, str, float, str], None]
"""Takes a token, what it holds, its issuer, its arrival (epoch seconds) and the id of its request;
never fails."""


class BackchannelLogout:
    """The endpoint. ``providers`` is keyed by every name of each issuer.

    ``places`` bounds what is at work; ``park`` takes the tokens whose key can not be had now.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        writer: Writer,
        *,
        places: Places,
        park: Park,
        teller: Teller | None = None,
        tracing: Tracing | None = None,
        trusts_request_id: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._providers = providers
        self._issuers = {name: provider.issuer.plain for name, provider in providers.items()}
        self.writer = writer
        self.places = places
        self._decrypting = Decrypting.of(
            {name: provider.issuer for name, provider in providers.items()}, places
        )
        self._bodies = BodyBytes()
        self._park = park
        self._teller = teller or Teller()
        self._tracing = tracing
        self._trusts_request_id = trusts_request_id
        self._clock = clock
        self._answers: list[tuple[Respond, Response]] = []
        """Of those whose results are being told together: they go out behind their lines."""
        writer.gather(self)

    def hold(self) -> None:
        """Results are told: see `app.publish.grouped.Gathering`."""
        LINES.hold()

    def release(self) -> None:
        """All of them are told. The lines first: who has an answer is in the log."""
        LINES.release()
        answers, self._answers = self._answers, []
        for respond, response in answers:
            try:
                respond(response)
            except Exception:
                log.exception("logout", outcome="failed", error="internal")

    async def answer(self, request: Request) -> Response:
        """Answer one POST within `REQUEST_SECONDS`, whatever hangs."""
        story = Story(self._teller, time.perf_counter(), self._request_id(request))
        if self._tracing is None:
            return await self._answer(self._read(request), story)
        with self._tracing.of(request.headers, story) as answered:
            return answered(await self._answer(self._read(request), story))

    def _request_id(self, request: Request) -> str | None:
        """The one that a proxy has given it, where that is trusted."""
        if not self._trusts_request_id:
            return None
        return well_formed(request.headers.get("x-request-id", ""))

    def answer_whole(
        self,
        media_type: str,
        body: bytes,
        respond: Respond,
        spawn: Spawn,
        request_id: str | None = None,
    ) -> Response | None:
        """`answer` to a POST whose body is here already; None: ``respond`` gets it later.

        Where nothing but Redis has to be waited for there is no task, no deadline and no future for
        it alone (docs/performance.md). ``spawn`` runs what has to wait for more.
        """
        request_id = None if request_id is None else well_formed(request_id)
        story = Story(self._teller, time.perf_counter(), request_id)
        try:
            return self._begin(read_whole(media_type, body), story, respond, spawn)
        except Exception as error:  # noqa: BLE001  it is logged there
            return self.failed(story, error)

    def _begin(
        self, unverified_token: bytes, story: Story, respond: Respond, spawn: Spawn
    ) -> Response | None:
        arrived_at = self._clock()
        until = asyncio.get_running_loop().time() + REQUEST_SECONDS
        if self._decrypting is not None and is_encrypted(unverified_token):
            spawn(self._answer_later(unverified_token, story, respond))
            return None
        jwt, issuer = self._opened(unverified_token, story)
        name = issuer.issuer
        keys = self._providers[name].keys
        key_set = signed_jwt.keys_at_hand(jwt, keys)
        if key_set is None:
            spawn(self._answer_later(unverified_token, story, respond))
            return None
        self.places.take(name)
        waits = False
        try:
            signed = signed_jwt.verify_by(jwt, issuer, key_set)
            revocations = self._judged(signed, story, arrived_at)
            one = revocations[0]
            finish = _Finish(self, story, name, one, until, respond, spawn)
            if len(revocations) > 1 or not self.writer.begin(one, until=until, done=finish.told):
                finish.in_task(self.writer.write(revocations, until=until))
            waits = True
        finally:
            if not waits:
                self.places.give_back(name)
        return None

    async def _answer_later(self, unverified_token: bytes, story: Story, respond: Respond) -> None:
        at_hand: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        at_hand.set_result(unverified_token)
        respond(await self._answer(at_hand, story))

    async def _answer(self, reading: Awaitable[bytes], story: Story) -> Response:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._receive(reading, story)
        except Exception as error:  # noqa: BLE001  it is logged there
            return self.failed(story, error)
        return self.done(story)

    async def _receive(self, reading: Awaitable[bytes], story: Story) -> None:
        arrived_at = self._clock()
        now = asyncio.get_running_loop().time()
        until, keys_until = now + REQUEST_SECONDS, now + LONGEST_WAIT
        received = await reading
        unverified_token = await self._decrypting.opened(received) if self._decrypting else received
        encrypted = unverified_token is not received
        jwt, issuer = self._opened(unverified_token, story, encrypted=encrypted)
        keys = self._providers[issuer.issuer].keys
        with self.places.taken(issuer.issuer):
            try:
                with span("verify", issuer=issuer.issuer):
                    signed = await signed_jwt.verify(
                        jwt, issuer, keys, arrived_at=arrived_at, until=keys_until
                    )
            except (DependencyUnavailable, asyncio.CancelledError):
                # Cancelled: the deadline has come before the keys.
                self._park(unverified_token, jwt, issuer.issuer, arrived_at, story.request_id)
                raise
            revocations = self._judged(signed, story, arrived_at)
            with span("store", issuer=issuer.issuer):
                story.outcome = await self.writer.write(revocations, until=until)

    def _opened(
        self, unverified_token: bytes, story: Story, *, encrypted: bool = False
    ) -> tuple[UnverifiedJwt, PlainIssuer]:
        """All that can be asked before the signature."""
        jwt = story.jwt = signed_jwt.parse(unverified_token)
        issuer = signed_jwt.issuer_of(jwt, self._issuers)
        story.issuer = issuer.issuer
        if issuer.encryption == "required" and not encrypted:
            raise TokenRefused(Reason.ENCRYPTION_REQUIRED)
        signed_jwt.check_header(jwt, issuer, logout_token.TYPS)
        return jwt, issuer

    @staticmethod
    def _judged(signed: SignedClaims, story: Story, arrived_at: float) -> list[Revocation]:
        """All that is asked after it."""
        # Before it is judged: a clock that is wrong is seen by the tokens that it makes fail.
        story.signed(signed.claims.get("iat"), arrived_at)
        # As of its arrival: a clock that is set right meanwhile must not part the two.
        token = story.token = logout_token.judge(signed, now=arrived_at)
        story.revocations = revocations_for(token, received_at=arrived_at)
        story.judged()
        return story.revocations

    async def _read(self, request: Request) -> bytes:
        with self._bodies.reading() as grown_to:
            return await read_form(request, grown_to)

    def answer_together(self, respond: Respond, response: Response) -> None:
        """Answer with the others of the same group."""
        self._answers.append((respond, response))

    @staticmethod
    def done(story: Story) -> Response:
        story.tell(story.outcome)
        return _OK

    @staticmethod
    def failed(story: Story, error: Exception) -> Response:
        """The answer to a fault. Call it where the fault is handled."""
        if isinstance(error, ClientDisconnect):
            story.tell("disconnected")
            return Response(status_code=400)
        if isinstance(error, TimeoutError):
            error = DependencyUnavailable(Outage.DEADLINE)
        if not isinstance(error, TokenRefused | DependencyUnavailable):
            # A fault of ours is never the provider's: 503, so that it may send again.
            log.error("logout", outcome="failed", request_id=story.request_id, exc_info=error)
            error = DependencyUnavailable(Outage.INTERNAL)
        status, body, headers = to_http(error)
        if isinstance(error, TokenRefused):
            story.refused(error.reason)
        else:
            story.tell("unavailable", error.outage)
        # By which the provider's operators and ours find that they speak of the same.
        headers["X-Request-Id"] = story.request_id
        return JSONResponse(body, status_code=status, headers=headers)


@dataclass(slots=True)
class _Finish:
    """The rest of a request that `BackchannelLogout.answer_whole` has taken a place for."""

    endpoint: BackchannelLogout
    story: Story
    issuer: str
    revocation: Revocation
    until: float
    respond: Respond
    spawn: Spawn

    def told(self, result: Result) -> None:
        """Redis has answered, or has not in time."""
        endpoint, story = self.endpoint, self.story
        if isinstance(result, RedisFault):
            self.in_task(
                endpoint.writer.write_failed(self.revocation, result, given=REQUEST_SECONDS)
            )
            return
        try:
            story.outcome = endpoint.writer.written(self.revocation, result)
            response = endpoint.done(story)
        except Exception as error:  # noqa: BLE001  it is logged there
            response = endpoint.failed(story, error)
        finally:
            endpoint.places.give_back(self.issuer)
        endpoint.answer_together(self.respond, response)

    def in_task(self, writing: Coroutine[Any, Any, Written]) -> None:
        """Wait for ``writing``, for as long as the request has."""
        self.spawn(self._wait_for(writing))

    async def _wait_for(self, writing: Coroutine[Any, Any, Written]) -> None:
        endpoint, story = self.endpoint, self.story
        try:
            async with asyncio.timeout_at(self.until):
                story.outcome = await writing
            response = endpoint.done(story)
        except Exception as error:  # noqa: BLE001  it is logged there
            response = endpoint.failed(story, error)
        finally:
            endpoint.places.give_back(self.issuer)
        self.respond(response)
