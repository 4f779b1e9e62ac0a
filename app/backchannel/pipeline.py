"""The steps of a logout token, each written once.

    Attempt   parse -> find keys -> verify -> validate -> revocations, and the answer

Four drivers run these steps: `batch` for all requests of one turn of the event loop, `waiting` for
a request which has to wait, `parking` again once keys arrive, and `explain` for people. A step
raises `TokenRefused` or `DependencyUnavailable`; none of them writes or waits, except `fetch_keys`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from app.backchannel.admission import FairSemaphore
from app.backchannel.revocations import revocations_for
from app.config.issuers import IssuerSettings
from app.errors import DependencyUnavailable, Outage, Reason, TokenRefused, to_http
from app.log import new_log
from app.publish.writer import Written
from app.revocation import Revocation
from app.telemetry.attempt_log import AttemptRecord
from app.tokens import logout_token, signed_jwt
from app.tokens.jwks import KeySet
from app.tokens.provider_keys import ProviderKeys
from app.tokens.signed_jwt import SignedClaims, UnverifiedJwt

log = new_log(__name__)

# The least patient provider waits 2.5 s (oidc-provider), and most never retry: a later answer is
# a logout which the provider believes lost.
REQUEST_SECONDS = 1.8


@dataclass(frozen=True, slots=True)
class Provider:
    """A configured issuer and its keys."""

    issuer: IssuerSettings
    keys: ProviderKeys


@dataclass(slots=True, eq=False)
class Attempt:
    """One logout token on its way to revocations. Call the steps in the order below.

    ``providers`` is keyed by every name of each issuer.
    """

    providers: Mapping[str, Provider]
    record: AttemptRecord
    unverified_token: bytes
    arrived_at: float
    """Epoch seconds."""
    decrypted: bool = False
    """Whether the token was encrypted."""
    parsed: bool = False
    jwt: UnverifiedJwt = field(init=False)
    issuer: IssuerSettings = field(init=False)
    keys: ProviderKeys = field(init=False)
    key_set: KeySet | None = None
    signed: SignedClaims | None = None
    revocations: list[Revocation] = field(default_factory=list)
    _places: FairSemaphore | None = None

    def parse(self) -> None:
        """Everything that costs no cryptography: shape, issuer, encryption, header."""
        record = self.record
        self.jwt = record.jwt = signed_jwt.parse(self.unverified_token)
        provider = signed_jwt.issuer_of(self.jwt, self.providers)
        self.issuer, self.keys = provider.issuer, provider.keys
        record.issuer = self.issuer.issuer
        if not self.decrypted and self.issuer.encryption == "required":
            raise TokenRefused(Reason.ENCRYPTION_REQUIRED)
        signed_jwt.check_header(self.jwt, self.issuer, logout_token.TYPS)
        self.parsed = True

    def find_keys(self) -> bool:
        """Take the cached keys. Returns whether the key that the token names is among them."""
        key_set = self.key_set = self.keys.current()
        kid = self.jwt.unverified_header.get("kid")
        return key_set is not None and kid is not None and kid in key_set.by_kid

    def verify(self) -> bool:
        """Verify the signature with the keys of `find_keys`, which has returned True. Returns
        whether it did; False: `fetch_and_verify` decides, with newer keys."""
        try:
            self.signed = signed_jwt.verify(self.jwt, self.issuer, self.key_set)
        except TokenRefused as refusal:
            if self.keys.may_fetch_for(self.jwt, refusal, self.arrived_at):
                return False
            raise
        return True

    def verify_parked(self) -> None:
        """Verify the signature once keys have arrived: `ProviderKeys.verify_parked`."""
        self.signed = self.keys.verify_parked(self.jwt, self.issuer, arrived_at=self.arrived_at)

    async def fetch_and_verify(self, until: float | None = None) -> None:
        """`find_keys` and `verify`, fetching keys where that can help: `ProviderKeys.verify`."""
        self.signed = await self.keys.verify(
            self.jwt, self.issuer, arrived_at=self.arrived_at, until=until
        )

    def validate(self) -> None:
        """Check the claims, and derive one revocation for each app concerned."""
        record, signed = self.record, self.signed
        assert signed is not None  # noqa: S101  `verify` has passed
        # Before the check: tokens which fail because of a wrong clock are what reveals it.
        record.iat, record.arrived_at = signed.claims.get("iat"), self.arrived_at
        # As of the arrival: adjusting our clock meanwhile must not change the result.
        token = record.token = logout_token.validate(signed, now=self.arrived_at)
        self.revocations = record.revocations = revocations_for(token, received_at=self.arrived_at)
        record.validated_at = time.perf_counter()

    # -- admission and answer ---------------------------------------------------------------

    def admit(self, places: FairSemaphore) -> None:
        """Take a place of the issuer's share, until `answer` or `leave`."""
        places.acquire(self.issuer.issuer)
        self._places = places

    def leave(self) -> None:
        """Give the place back, if there is one."""
        if self._places is not None:
            self._places.release(self.issuer.issuer)
            self._places = None

    def answer(self, outcome: Written | Exception) -> Response:
        """Give the place back, report the outcome, and return the response. Never raises.

        For an unexpected error, call it where that is handled.
        """
        self.leave()
        try:
            if isinstance(outcome, Exception):
                return _failure(self.record, outcome)
            self.record.report(outcome)
            return _OK
        except Exception:
            log.exception("logout", outcome="failed", error="internal")
            status, body, headers = to_http(DependencyUnavailable(Outage.INTERNAL))
            return JSONResponse(body, status_code=status, headers=headers)


# It depends on nothing in the request, and nothing modifies it.
_OK = Response(status_code=200)


def _failure(record: AttemptRecord, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        record.report("disconnected")
        return Response(status_code=400)
    if isinstance(error, TimeoutError):
        error = DependencyUnavailable(Outage.DEADLINE)
    if not isinstance(error, TokenRefused | DependencyUnavailable):
        # A bug of ours is never the provider's fault: 503, so that it may retry.
        log.error("logout", outcome="failed", request_id=record.request_id, exc_info=error)
        error = DependencyUnavailable(Outage.INTERNAL)
    status, body, headers = to_http(error)
    if isinstance(error, TokenRefused):
        record.refused(error.reason)
    else:
        record.unavailable(error.outage)
    # Lets the provider's operators and ours refer to the same request.
    headers["X-Request-Id"] = record.request_id
    return JSONResponse(body, status_code=status, headers=headers)
