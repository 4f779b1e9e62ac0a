"""`POST /backchannel-logout`: a provider's logout token in, 200, 400 or 503 out.

Back-Channel Logout 1.0, sections 2.5 (request), 2.7 (what the relying party does) and 2.8
(response). Owns the request's time; knows neither keys nor Redis.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from app.backchannel.admission import BodyBytes, FairSemaphore
from app.backchannel.decryption_queue import DecryptionQueue
from app.backchannel.form import read_form
from app.backchannel.revocations import revocations_for
from app.config.issuers import IssuerSettings
from app.errors import DependencyUnavailable, Outage, Reason, TokenRefused, fault_of, to_http
from app.log import new_log
from app.publish.writer import Writer
from app.revocation import Revocation
from app.telemetry.attempt_log import AttemptRecord, Reporter, well_formed
from app.telemetry.traces import Tracing
from app.tokens import logout_token, signed_jwt
from app.tokens.encrypted_jwt import is_encrypted
from app.tokens.provider_keys import LONGEST_WAIT, ProviderKeys
from app.tokens.signed_jwt import SignedClaims, UnverifiedJwt
from app.tracing import span

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


Park = Callable[[bytes, UnverifiedJwt, str, float, str], None]
"""Takes a token, what it holds, its issuer, its arrival (epoch seconds) and the id of its request;
never fails."""


class BackchannelEndpoint:
    """The endpoint. ``providers`` is keyed by every name of each issuer.

    ``places`` bounds what is at work; ``park`` takes the tokens whose key can not be had now.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        writer: Writer,
        *,
        places: FairSemaphore,
        park: Park,
        teller: Reporter | None = None,
        tracing: Tracing | None = None,
        trusts_request_id: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._providers = providers
        self._issuers = {name: provider.issuer for name, provider in providers.items()}
        self.writer = writer
        self.places = places
        self._decrypting = DecryptionQueue.of(
            {name: provider.issuer for name, provider in providers.items()}, places
        )
        self._bodies = BodyBytes()
        self._park = park
        self._teller = teller or Reporter()
        self._tracing = tracing
        self._trusts_request_id = trusts_request_id
        self.clock = clock

    async def answer(self, request: Request) -> Response:
        """Answer one POST within `REQUEST_SECONDS`, whatever hangs."""
        story = self.new_story(self._request_id(request))
        if self._tracing is None:
            return await self._answer(self._read(request), story)
        with self._tracing.of(request.headers, story) as answered:
            return answered(await self._answer(self._read(request), story))

    def new_story(self, request_id: str | None) -> AttemptRecord:
        """Of a request that comes now; ``request_id`` is a proxy's, where that is trusted."""
        request_id = None if request_id is None else well_formed(request_id)
        return AttemptRecord(self._teller, time.perf_counter(), request_id)

    def _request_id(self, request: Request) -> str | None:
        return request.headers.get("x-request-id") if self._trusts_request_id else None

    async def answer_later(
        self, unverified_token: bytes, story: AttemptRecord, respond: Callable[[Response], None]
    ) -> None:
        """Answer, by ``respond``, once all that it needs is there."""
        at_hand: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        at_hand.set_result(unverified_token)
        respond(await self._answer(at_hand, story))

    async def _answer(self, reading: Awaitable[bytes], story: AttemptRecord) -> Response:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._receive(reading, story)
        except BaseException as error:  # noqa: BLE001  it is logged there
            return self.failed(story, fault_of(error))
        return self.done(story)

    async def _receive(self, reading: Awaitable[bytes], story: AttemptRecord) -> None:
        arrived_at = self.clock()
        now = asyncio.get_running_loop().time()
        until, keys_until = now + REQUEST_SECONDS, now + LONGEST_WAIT
        received = await reading
        unverified_token = await self._decrypting.opened(received) if self._decrypting else received
        encrypted = unverified_token is not received
        jwt, issuer = self.opened(unverified_token, story, encrypted=encrypted)
        keys = self.keys_of(issuer)
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
            revocations = self.judged(signed, story, arrived_at)
            with span("store", issuer=issuer.issuer):
                story.outcome = await self.writer.write(revocations, until=until)

    def opened(
        self, unverified_token: bytes, story: AttemptRecord, *, encrypted: bool = False
    ) -> tuple[UnverifiedJwt, IssuerSettings]:
        """All that can be asked before the signature."""
        jwt = story.jwt = signed_jwt.parse(unverified_token)
        issuer = signed_jwt.issuer_of(jwt, self._issuers)
        story.issuer = issuer.issuer
        if issuer.encryption == "required" and not encrypted:
            raise TokenRefused(Reason.ENCRYPTION_REQUIRED)
        signed_jwt.check_header(jwt, issuer, logout_token.TYPS)
        return jwt, issuer

    def keys_of(self, issuer: IssuerSettings) -> ProviderKeys:
        """Those that must prove what names this issuer."""
        return self._providers[issuer.issuer].keys

    def is_encrypted(self, unverified_token: bytes) -> bool:
        """Whether it must be decrypted first, which is done beside the event loop."""
        return self._decrypting is not None and is_encrypted(unverified_token)

    @staticmethod
    def judged(signed: SignedClaims, story: AttemptRecord, arrived_at: float) -> list[Revocation]:
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

    @staticmethod
    def done(story: AttemptRecord) -> Response:
        story.tell(story.outcome)
        return _OK

    @staticmethod
    def failed(story: AttemptRecord, error: Exception) -> Response:
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
            story.unavailable(error.outage)
        # By which the provider's operators and ours find that they speak of the same.
        headers["X-Request-Id"] = story.request_id
        return JSONResponse(body, status_code=status, headers=headers)
