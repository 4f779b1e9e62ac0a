"""Calls that carry the user's own Kratos credential, as in Ory's self-service.

    X-Session-Token: <session token>            a native app
    Cookie: ory_kratos_session=<...>            a browser on this origin

Kratos itself confirms the session for each request (`/sessions/whoami`). A cookie travels with
every request to its site, so a DELETE with one must come from a page of the listener's own origin.
"""

from starlette.datastructures import Headers
from starlette.types import Scope

from app.account.caller import Caller, unauthorized
from app.config.issuers import IssuerSettings
from app.sessions.provider_session import ProviderSession
from app.sessions.providers.kratos_whoami import KratosCredential, KratosWhoami
from app.sessions.session_provider import FaultKind, ProviderFault
from app.web.errors import ApiError
from app.web.operator import peer_address
from app.web.provider_errors import api_error
from backchannel_logout import Session
from backchannel_logout.account import is_cross_origin


class KratosCallers:
    """Identifies the users of one Kratos."""

    def __init__(self, issuer: IssuerSettings, whoami: KratosWhoami) -> None:
        self._issuer = issuer
        self._apps = tuple(sorted({client.app for client in issuer.clients}))
        self._whoami = whoami

    def credential(self, scope: Scope) -> KratosCredential | None:
        """The request's credential, not checked; None for a request with another, or with none.

        Raises `ApiError`.
        """
        headers = Headers(scope=scope)
        if "authorization" in headers:
            return None
        credential = KratosCredential.from_headers(
            headers.getlist("x-session-token"), headers.getlist("cookie")
        )
        if (
            credential is not None
            and credential.is_cookie
            and scope["method"] != "GET"
            and is_cross_origin(headers)
        ):
            raise ApiError(403, "foreign_origin", "send this from a page of the same origin")
        return credential

    async def identify(self, scope: Scope, credential: KratosCredential) -> Caller:
        """The caller, whom Kratos names. Raises `ApiError`."""
        session = await self._session(credential)
        return Caller(
            Session(
                iss=self._issuer.issuer,
                login_at=int(session.authenticated_at or session.created_at or 0),
                sid=session.id,
                sub=session.user_id,
            ),
            session.user_id, self._issuer, self._apps, "account:kratos",
            peer_address(scope), by_token=True, confirmed=True,
        )  # fmt: skip

    async def _session(self, credential: KratosCredential) -> ProviderSession:
        try:
            return await self._whoami.session(credential)
        except ProviderFault as fault:
            if fault.kind is FaultKind.UNAUTHORIZED:
                raise unauthorized("Kratos knows no active session of this credential") from None
            if fault.kind is FaultKind.FORBIDDEN:
                raise ApiError(
                    403, "second_factor_required", "Kratos requires a second factor first"
                ) from None
            raise api_error(fault) from None
