"""Sign-in at a configured provider with OpenID Connect's authorization code flow.

It uses PKCE (RFC 7636), state and nonce. The ID token is verified by the same code as a logout
token. A sign-in in progress is kept in a cookie of the browser (see `pending`).
"""

import asyncio
import base64
import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
from starlette.requests import Request

from app.audit import person_name, printable_name
from app.config.admin_oidc import AdminOidcSettings
from app.config.issuers import IssuerSettings
from app.config.model import Settings
from app.console.sign_in.code_exchanges import WAIT_SECONDS, AlreadyUsed, Busy, CodeExchanges
from app.console.sign_in.discovery import Discovery
from app.console.sign_in.id_token import has, is_for_us
from app.console.sign_in.pending import PendingSignIn, PendingSignIns
from app.console.sign_in.refused_sign_ins import THROTTLED
from app.errors import DependencyUnavailable, TokenRefused
from app.log import new_log
from app.tokens import signed_jwt
from app.tokens.fetch import FETCH_SECONDS, LARGEST_DOCUMENT, FetchFailed
from app.tokens.provider_keys import ProviderKeys
from app.web.operator import peer_address
from backchannel_logout import SessionNotIdentified, remember

log = new_log(__name__)

CALLBACK = "/console/callback"

# Servers accept addresses of 8 KiB.
_MAX_HINT = 6000

NOT_ALLOWED = "not_allowed"
"""The code of an account that lacks the required claim."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody signed in at the provider. ``members`` is what `remember` stores."""

    who: str
    display_name: str
    iss: str
    sub: str
    id_token: str | None
    """For the sign-out at the provider; None if it is too long for an address."""
    members: Mapping[str, Any]


class SignInRefused(Exception):
    """``code`` is a key of `routes.REFUSALS`; the log has details.

    ``person`` is known if the ID token was verified. ``over``: this sign-in cannot be finished any
    more. ``wait`` is in seconds.
    """

    def __init__(
        self,
        code: str,
        *,
        person: Person | None = None,
        over: bool = True,
        page: str | None = None,
        wait: float = 0.0,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.person = person
        self.over = over
        self.page = page
        self.wait = wait


class OidcSignIn:
    """``clock`` returns epoch seconds."""

    def __init__(
        self,
        settings: Settings,
        oidc: AdminOidcSettings,
        client: httpx.AsyncClient,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._oidc = oidc
        self._issuer: IssuerSettings = next(
            issuer for issuer in settings.issuers if issuer.issuer == oidc.issuer
        )
        self.app = next(c.app for c in self._issuer.clients if c.client_id == oidc.client_id)
        """The console's own relying app, whose markers end the console's sessions."""
        self._client = client
        self._keys = ProviderKeys(self._issuer, client, clock=clock)
        self.keys = {oidc.issuer: self._keys}
        self._discovery = Discovery(self._issuer, client)
        self._clock = clock
        self._pending = PendingSignIns(clock)
        self._exchanges = CodeExchanges()

    async def begin(
        self, origin: str, page: str, *, another_account: bool = False
    ) -> tuple[str, str]:
        """The provider's address, and the header that sets the cookie of the sign-in. ``page``
        follows the sign-in. Raises `SignInRefused`."""
        endpoint = await self._endpoint("authorization_endpoint")
        pending, header = self._pending.begin(page)
        query = {
            "response_type": "code",
            "client_id": self._oidc.client_id,
            "redirect_uri": origin + CALLBACK,
            "scope": " ".join(self._oidc.scopes),
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": _challenge(pending.verifier),
            "code_challenge_method": "S256",
        }
        if another_account:
            # Every provider supports `login` (OpenID Connect Core 1.0, section 15.1).
            selects = await self._discovery.lists("prompt_values_supported", "select_account")
            query["prompt"] = "select_account" if selects else "login"
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", header

    async def finish(self, request: Request, origin: str) -> tuple[Person, str]:
        """The person, and the page that follows. Raises `SignInRefused`."""
        answer = dict(request.query_params)
        pending = self._pending.find(request.headers, answer.get("state", ""))
        if pending is None:
            # A sign-in in progress in this browser is another one, and continues.
            raise SignInRefused("not_begun", over=False)
        try:
            return await self._person(request, answer, pending, origin), pending.page
        except SignInRefused as refused:
            refused.page = pending.page
            raise

    async def _person(
        self, request: Request, answer: Mapping[str, str], pending: PendingSignIn, origin: str
    ) -> Person:
        if self._pending.is_late(pending):
            raise SignInRefused("late")
        if answer.get("iss", self._oidc.issuer) != self._oidc.issuer:
            raise SignInRefused("other_provider")  # RFC 9207
        if "code" not in answer:
            raise SignInRefused("provider_refused")
        try:
            async with self._exchanges.exchange(pending.state, peer_address(request.scope)):
                token = await self._exchange(answer["code"], pending.verifier, origin)
                claims = await self._verify(token, pending.nonce)
        except AlreadyUsed:
            raise SignInRefused("used") from None
        except Busy:
            raise SignInRefused(THROTTLED, over=False, wait=WAIT_SECONDS) from None
        stored: dict[str, Any] = {}
        try:
            remember(stored, claims)
        except SessionNotIdentified:
            raise SignInRefused("unusable") from None
        name, sub = claims.get("preferred_username") or claims.get("name"), str(claims["sub"])
        name = name if isinstance(name, str) else None
        person = Person(
            who=person_name(sub, name), display_name=printable_name(name) or sub,
            iss=self._oidc.issuer, sub=sub,
            id_token=token if len(token) <= _MAX_HINT else None, members=stored,
        )  # fmt: skip
        if not has(claims, self._oidc.required):
            log.warning("admin", outcome="refused", reason="claim")
            raise SignInRefused(NOT_ALLOWED, person=person)
        return person

    async def sign_out_url(self, id_token: str) -> str | None:
        """Where the provider ends its own session (OpenID Connect RP-Initiated Logout 1.0); None
        if its discovery document has no such address."""
        try:
            endpoint = await self._discovery.endpoint("end_session_endpoint")
        except FetchFailed:
            return None
        query = urlencode({"id_token_hint": id_token, "client_id": self._oidc.client_id})
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"

    async def _endpoint(self, name: str) -> str:
        try:
            return await self._discovery.endpoint(name)
        except FetchFailed as error:
            raise self._failed(error.code, None) from None

    async def _exchange(self, code: str, verifier: str, origin: str) -> str:
        endpoint = await self._endpoint("token_endpoint")
        secret = self._oidc.client_secret.get_secret_value()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                answer = await self._client.post(
                    endpoint,
                    data={
                        "grant_type": "authorization_code", "code": code,
                        "redirect_uri": origin + CALLBACK, "code_verifier": verifier,
                    },
                    # RFC 6749 section 2.3.1: each half form-encoded first.
                    auth=(quote_plus(self._oidc.client_id), quote_plus(secret)),
                )  # fmt: skip
            if answer.status_code != 200 or len(answer.content) > LARGEST_DOCUMENT:
                raise self._failed(f"token_http_{answer.status_code}", None)
            token = answer.json()["id_token"]
        except (TimeoutError, httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise self._failed("token", error) from None
        if not isinstance(token, str):
            raise self._failed("token", None)
        return token

    async def _verify(self, token: str, nonce: str) -> Mapping[str, Any]:
        """The claims of the ID token (OpenID Connect Core 1.0, section 3.1.3.7)."""
        try:
            jwt = signed_jwt.parse(token.encode())
            # `strict` applies to logout tokens only.
            issuer = self._issuer.model_copy(update={"strict": False})
            signed_jwt.check_header(jwt, issuer, frozenset())
            signed = await self._keys.verify(jwt, issuer, arrived_at=self._clock())
        except (TokenRefused, DependencyUnavailable, UnicodeEncodeError) as error:
            raise self._failed("id_token", error) from None
        now, leeway = self._clock(), self._issuer.leeway
        if not is_for_us(signed.claims, self._oidc, nonce, now=now, leeway=leeway):
            raise self._failed("id_token_claims", None)
        return signed.claims

    @staticmethod
    def _failed(what: str, error: Exception | None) -> SignInRefused:
        log.warning(
            "admin", outcome="sign_in_failed", reason=what,
            error=None if error is None else type(error).__name__,
        )  # fmt: skip
        return SignInRefused("failed")

    async def aclose(self) -> None:
        with contextlib.suppress(Exception):
            await self._keys.aclose()


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
